// The same client as raw_client.h, through TLS.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "net/testing/certificates.h"
#include "net/testing/raw_client.h"

namespace neutrino::net::testing {

struct TlsClientOptions {
  std::filesystem::path authority;    // whose server certificates are good
  CertificateFiles certificate = {};  // to show, if any
  int version_max = TLS1_3_VERSION;
  const char* ciphers12 = nullptr;  // offered for TLS 1.2 instead of OpenSSL's own
  const char* protocol = nullptr;   // offered by ALPN
};

class TlsClient final : public RawClient {
 public:
  TlsClient(int port, const TlsClientOptions& options,
            std::chrono::milliseconds patience = std::chrono::seconds(10));
  ~TlsClient() override;

  bool connected() const { return connected_; }  // the handshake came through, as far as this side knows
  std::string server_name() const;               // common name of the server's certificate
  std::string version() const { return SSL_get_version(ssl_.get()); }
  bool said_goodbye() const { return (SSL_get_shutdown(ssl_.get()) & SSL_RECEIVED_SHUTDOWN) != 0; }

 protected:
  bool has_buffered() override { return SSL_pending(ssl_.get()) > 0; }
  ssize_t read_bytes(char* to, size_t size) override;
  ssize_t write_bytes(std::string_view bytes) override;

 private:
  struct FreeContext {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
  };
  struct FreeSsl {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
  };
  std::unique_ptr<SSL_CTX, FreeContext> context_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  bool connected_ = false;
};

}  // namespace neutrino::net::testing
