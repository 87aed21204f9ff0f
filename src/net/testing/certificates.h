// Certificates for tests, made afresh in a folder of their own: an authority, and what it signs. P-256, valid for a day.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <filesystem>
#include <memory>
#include <string>

namespace neutrino::net::testing {

struct CertificateFiles {
  std::filesystem::path certificate, key;
};

class Authority {
 public:
  explicit Authority(const std::string& name);
  ~Authority();
  Authority(const Authority&) = delete;
  Authority& operator=(const Authority&) = delete;

  const std::filesystem::path& certificate() const { return certificate_file_; }
  // A certificate for localhost and 127.0.0.1, and its key, as `name`.pem and `name`.key; what has that name is replaced.
  CertificateFiles issue(const std::string& name) const;
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }

 private:
  struct FreeKey {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  struct FreeCertificate {
    void operator()(X509* certificate) const { X509_free(certificate); }
  };
  using Key = std::unique_ptr<EVP_PKEY, FreeKey>;
  using Certificate = std::unique_ptr<X509, FreeCertificate>;
  static Certificate blank(const std::string& name, EVP_PKEY* key);
  void write(const CertificateFiles& files, X509* certificate, EVP_PKEY* key) const;

  std::filesystem::path folder_, certificate_file_;
  Key key_;
  Certificate certificate_;
};

}  // namespace neutrino::net::testing
