#include "cloud/testing/token_signer.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/pem.h>

#include "base/error.h"
#include "base/fields.h"
#include "cloud/base64url.h"

namespace neutrino::cloud::testing {
namespace {

std::string number_in(EVP_PKEY* key, const char* name, int bytes) {
  BIGNUM* number = nullptr;
  check(EVP_PKEY_get_bn_param(key, name, &number) == 1);
  std::string text(static_cast<size_t>(bytes > 0 ? bytes : BN_num_bytes(number)), '\0');
  BN_bn2binpad(number, reinterpret_cast<unsigned char*>(text.data()), static_cast<int>(text.size()));
  BN_free(number);
  return to_base64url(text);
}

EVP_PKEY* generate(SigningAlgorithm algorithm) {
  switch (algorithm) {
    case SigningAlgorithm::rs256: return EVP_PKEY_Q_keygen(nullptr, nullptr, "RSA", size_t{2048});
    case SigningAlgorithm::es256: return EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256");
    case SigningAlgorithm::eddsa: return EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519");
  }
  return nullptr;
}

// From OpenSSL's DER to r and s side by side.
std::string to_raw(const std::string& der) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* pair = d2i_ECDSA_SIG(nullptr, &bytes, static_cast<long>(der.size()));
  std::string raw(64, '\0');
  auto* out = reinterpret_cast<unsigned char*>(raw.data());
  BN_bn2binpad(ECDSA_SIG_get0_r(pair), out, 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(pair), out + 32, 32);
  ECDSA_SIG_free(pair);
  return raw;
}

std::string parts_of(const json::object& header, const json::object& claims) {
  return to_base64url(to_text(header)) + "." + to_base64url(to_text(claims));
}

}  // namespace

TokenSigner::TokenSigner(SigningAlgorithm algorithm, std::string kid)
    : algorithm_(algorithm), kid_(std::move(kid)), key_(generate(algorithm)) {
  check(key_ != nullptr);
}

json::object TokenSigner::jwk() const {
  json::object jwk{{"kid", kid_}, {"use", "sig"}, {"alg", enum_name(algorithm_)}};
  if (algorithm_ == SigningAlgorithm::rs256) {
    jwk["kty"] = "RSA";
    jwk["n"] = number_in(key_.get(), OSSL_PKEY_PARAM_RSA_N, 0);
    jwk["e"] = number_in(key_.get(), OSSL_PKEY_PARAM_RSA_E, 0);
  } else if (algorithm_ == SigningAlgorithm::es256) {
    jwk["kty"] = "EC", jwk["crv"] = "P-256";
    jwk["x"] = number_in(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X, 32);
    jwk["y"] = number_in(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y, 32);
  } else {
    std::string x(32, '\0');
    size_t size = x.size();
    check(EVP_PKEY_get_raw_public_key(key_.get(), reinterpret_cast<unsigned char*>(x.data()), &size) == 1);
    jwk["kty"] = "OKP", jwk["crv"] = "Ed25519", jwk["x"] = to_base64url(x);
  }
  return jwk;
}

std::string TokenSigner::sign(const json::object& claims) const {
  return sign({{"alg", enum_name(algorithm_)}, {"kid", kid_}}, claims);
}

std::string TokenSigner::sign(const json::object& header, const json::object& claims) const {
  const std::string text = parts_of(header, claims);
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  const EVP_MD* digest = algorithm_ == SigningAlgorithm::eddsa ? nullptr : EVP_sha256();
  std::string signature(1024, '\0');
  size_t size = signature.size();
  check(EVP_DigestSignInit(context, nullptr, digest, nullptr, key_.get()) == 1 &&
        EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size,
                       reinterpret_cast<const unsigned char*>(text.data()), text.size()) == 1);
  EVP_MD_CTX_free(context);
  signature.resize(size);
  return text + "." + to_base64url(algorithm_ == SigningAlgorithm::es256 ? to_raw(signature) : signature);
}

std::string TokenSigner::public_pem() const {
  BIO* memory = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(memory, key_.get());
  char* data = nullptr;
  const long size = BIO_get_mem_data(memory, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(memory);
  return pem;
}

std::string token_with(const json::object& header, const json::object& claims, std::string_view signature) {
  return parts_of(header, claims) + "." + to_base64url(signature);
}

}  // namespace neutrino::cloud::testing
