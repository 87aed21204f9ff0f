#include "net/testing/certificates.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/error.h"
#include "base/file.h"
#include "base/random.h"

namespace neutrino::net::testing {
namespace {

void add_extension(X509* certificate, int kind, const char* value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
  check(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1, "a certificate's extension");
  X509_EXTENSION_free(extension);
}

template <typename Write>
std::string pem(Write write) {
  BIO* memory = BIO_new(BIO_s_mem());
  check(write(memory) == 1, "PEM");
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string text(data, static_cast<size_t>(size));
  BIO_free(memory);
  return text;
}

}  // namespace

Authority::Certificate Authority::blank(const std::string& name, EVP_PKEY* key) {
  Certificate certificate(X509_new());
  X509* raw = certificate.get();
  X509_set_version(raw, X509_VERSION_3);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(raw), system_entropy() >> 1 | 1);
  X509_gmtime_adj(X509_getm_notBefore(raw), -60);
  X509_gmtime_adj(X509_getm_notAfter(raw), 24 * 3600);
  X509_set_pubkey(raw, key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(raw), "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return certificate;
}

void Authority::write(const CertificateFiles& files, X509* certificate, EVP_PKEY* key) const {
  const std::string key_text =
      pem([&](BIO* to) { return PEM_write_bio_PrivateKey(to, key, nullptr, nullptr, 0, nullptr, nullptr); });
  write_file_atomic(files.key, key_text, 0600);
  write_file_atomic(files.certificate, pem([&](BIO* to) { return PEM_write_bio_X509(to, certificate); }));
}

Authority::Authority(const std::string& name)
    : folder_(std::filesystem::temp_directory_path() / fmt::format("neutrino-tls-{:016x}", system_entropy())),
      certificate_file_(folder_ / "authority.pem"),
      key_(EVP_EC_gen("P-256")),
      certificate_(blank(name, key_.get())) {
  std::filesystem::create_directory(folder_);
  X509_set_issuer_name(certificate_.get(), X509_get_subject_name(certificate_.get()));
  add_extension(certificate_.get(), NID_basic_constraints, "critical,CA:TRUE");
  check(X509_sign(certificate_.get(), key_.get(), EVP_sha256()) > 0, "sign");
  write({certificate_file_, folder_ / "authority.key"}, certificate_.get(), key_.get());
}

Authority::~Authority() { std::filesystem::remove_all(folder_); }

CertificateFiles Authority::issue(const std::string& name) const {
  const Key key(EVP_EC_gen("P-256"));
  const Certificate certificate = blank(name, key.get());
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_.get()));
  add_extension(certificate.get(), NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
  check(X509_sign(certificate.get(), key_.get(), EVP_sha256()) > 0, "sign");
  const CertificateFiles files{folder_ / (name + ".pem"), folder_ / (name + ".key")};
  write(files, certificate.get(), key.get());
  return files;
}

}  // namespace neutrino::net::testing
