#include "net/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <boost/asio/ssl/context.hpp>

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"

namespace neutrino::net {
namespace {

namespace ssl = boost::asio::ssl;

constexpr const char* kCiphers12 = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr const char* kCiphers13 =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr std::string_view kSessionContext = "neutrino";

Error bad_file(std::string_view flag, const std::filesystem::path& file, std::string_view fault) {
  return make_error(ErrorCode::invalid_argument, "{} {}: {}", flag, file.string(), fault);
}

// What OpenSSL says about the first thing that went wrong; forgets the rest.
std::string openssl_fault() {
  const unsigned long code = ERR_get_error();
  ERR_clear_error();
  const char* reason = code ? ERR_reason_error_string(code) : nullptr;
  return reason ? reason : "it cannot be read";
}

void require(bool good, std::string_view flag, const std::filesystem::path& file) {
  if (!good) throw bad_file(flag, file, openssl_fault());
}

// A server has nobody to ask for the password of a key.
int no_password(char*, int, int, void*) { return -1; }

// "http/1.1" if the client offers it; a client that offers others only is refused, as what it would say is not understood.
int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned offered_size, void*) {
  static constexpr unsigned char kHttp11[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  const int result =
      SSL_select_next_proto(&chosen, out_size, kHttp11, sizeof kHttp11 - 1, offered, offered_size);
  *out = chosen;
  return result == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

void harden(SSL_CTX* context) {
  bool good = SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) == 1;
  good = good && SSL_CTX_set_cipher_list(context, kCiphers12) == 1;
  good = good && SSL_CTX_set_ciphersuites(context, kCiphers13) == 1;
  check(good, "OpenSSL knows TLS 1.2 and its ciphers");
  SSL_CTX_set_options(context, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                   SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);  // 34 KB less for a connection that waits
  SSL_CTX_set_session_id_context(context, reinterpret_cast<const unsigned char*>(kSessionContext.data()),
                                 kSessionContext.size());
  SSL_CTX_set_alpn_select_cb(context, choose_protocol, nullptr);
  SSL_CTX_set_default_passwd_cb(context, no_password);
}

void take_certificate(SSL_CTX* context, const TlsFiles& files) {
  require(SSL_CTX_use_certificate_chain_file(context, files.certificate.c_str()) == 1, "--tls-cert",
          files.certificate);
  require(SSL_CTX_use_PrivateKey_file(context, files.key.c_str(), SSL_FILETYPE_PEM) == 1, "--tls-key",
          files.key);
  require(SSL_CTX_check_private_key(context) == 1, "--tls-key", files.key);
}

void ask_for_client_certificates(SSL_CTX* context, const std::filesystem::path& authorities) {
  require(SSL_CTX_load_verify_locations(context, authorities.c_str(), nullptr) == 1, "--tls-client-ca",
          authorities);
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(authorities.c_str());
  require(names != nullptr, "--tls-client-ca", authorities);
  SSL_CTX_set_client_CA_list(context, names);  // owns them now
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
}

}  // namespace

std::vector<std::filesystem::path> TlsFiles::all() const {
  std::vector<std::filesystem::path> files;
  for (const std::filesystem::path& file : {certificate, key, client_ca})
    if (!file.empty()) files.push_back(file);
  return files;
}

std::shared_ptr<ssl::context> load_tls(const TlsFiles& files) {
  if (files.all().empty()) return nullptr;
  if (files.certificate.empty() || files.key.empty())
    throw Error(ErrorCode::invalid_argument, "TLS needs both --tls-cert and --tls-key");
  ERR_clear_error();
  auto context = std::make_shared<ssl::context>(ssl::context::tls_server);
  SSL_CTX* native = context->native_handle();
  harden(native);
  take_certificate(native, files);
  if (!files.client_ca.empty()) ask_for_client_certificates(native, files.client_ca);
  return context;
}

void log_tls(const TlsFiles& files, ssl::context& context) {
  struct stat info {};
  if (::stat(files.key.c_str(), &info) == 0 && (info.st_mode & S_IRWXO) != 0)
    spdlog::warn("everybody on this machine can read the private key {}", files.key.string());
  const X509* certificate = SSL_CTX_get0_certificate(context.native_handle());
  int days = 0, seconds = 0;
  if (!certificate || ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) != 1) return;
  if (days < 0 || seconds < 0)
    spdlog::warn("the certificate {} has expired", files.certificate.string());
  else
    spdlog::info("tls certificate={} days_left={} client_certificates={}", files.certificate.string(), days,
                 files.client_ca.empty() ? "not asked for" : "required");
}

}  // namespace neutrino::net
