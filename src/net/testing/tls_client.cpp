#include "net/testing/tls_client.h"

#include <openssl/x509.h>

#include "base/error.h"

namespace neutrino::net::testing {

TlsClient::TlsClient(int port, const TlsClientOptions& options, std::chrono::milliseconds patience)
    : RawClient(port, patience), context_(SSL_CTX_new(TLS_client_method())) {
  SSL_CTX* context = context_.get();
  SSL_CTX_set_max_proto_version(context, options.version_max);
  if (options.version_max < TLS1_2_VERSION) SSL_CTX_set_security_level(context, 0);
  if (options.version_max < TLS1_2_VERSION) SSL_CTX_set_min_proto_version(context, TLS1_VERSION);
  if (options.ciphers12) check(SSL_CTX_set_cipher_list(context, options.ciphers12) == 1, "ciphers");
  check(SSL_CTX_load_verify_locations(context, options.authority.c_str(), nullptr) == 1, "authority");
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  if (!options.certificate.certificate.empty()) {
    check(SSL_CTX_use_certificate_chain_file(context, options.certificate.certificate.c_str()) == 1,
          "certificate");
    check(SSL_CTX_use_PrivateKey_file(context, options.certificate.key.c_str(), SSL_FILETYPE_PEM) == 1,
          "key");
  }
  ssl_.reset(SSL_new(context));
  if (options.protocol) {
    const std::string offer =
        static_cast<char>(std::char_traits<char>::length(options.protocol)) + std::string(options.protocol);
    SSL_set_alpn_protos(ssl_.get(), reinterpret_cast<const unsigned char*>(offer.data()),
                        static_cast<unsigned>(offer.size()));
  }
  SSL_set1_host(ssl_.get(), "localhost");
  SSL_set_tlsext_host_name(ssl_.get(), "localhost");
  SSL_set_fd(ssl_.get(), descriptor());
  connected_ = SSL_connect(ssl_.get()) == 1;
}

TlsClient::~TlsClient() = default;

std::string TlsClient::server_name() const {
  char name[256] = "";
  X509* certificate = SSL_get0_peer_certificate(ssl_.get());
  if (certificate)
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name, sizeof name);
  return name;
}

ssize_t TlsClient::read_bytes(char* to, size_t size) {
  return SSL_read(ssl_.get(), to, static_cast<int>(size));
}

ssize_t TlsClient::write_bytes(std::string_view bytes) {
  return SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
}

}  // namespace neutrino::net::testing
