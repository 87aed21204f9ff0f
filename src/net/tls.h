// TLS of the server: certificate, key, and whose client certificates are good. OpenSSL underneath.
//
// TLS 1.2 and 1.3 with forward secrecy and authenticated ciphers only (Mozilla's "intermediate" without DHE); no renegotiation, no
// compression. A context is made of the files once and never changed: to take in new files, a new one is made, and
// connections that are there keep what they have.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

namespace boost::asio::ssl {
class context;
}

namespace neutrino::net {

struct TlsFiles {
  std::filesystem::path certificate;  // PEM: the server's own first, then the chain; empty: no TLS
  std::filesystem::path key;          // PEM, not encrypted
  std::filesystem::path
      client_ca;  // PEM: who signs clients' certificates, which are then required; empty: none asked for

  bool enabled() const { return !certificate.empty(); }
  std::vector<std::filesystem::path> all() const;  // those that are set
};

// Null without a certificate. Throws Error{invalid_argument} that names the file and what is wrong with it.
std::shared_ptr<boost::asio::ssl::context> load_tls(const TlsFiles& files);

// Says in the log what is served, how long it is good for, and whether the key lies open.
void log_tls(const TlsFiles& files, boost::asio::ssl::context& context);

}  // namespace neutrino::net
