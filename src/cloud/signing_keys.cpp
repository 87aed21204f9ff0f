// A provider's public keys: from JWK to OpenSSL, and what they have signed.
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/param_build.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/fields.h"
#include "cloud/base64url.h"
#include "cloud/id_token.h"

namespace neutrino::cloud {
namespace {

constexpr size_t kKeysMax = 64;
constexpr int kRsaBitsMin = 2048, kRsaBitsMax = 16384;
constexpr size_t kP256Bytes = 32;

template <auto free>
struct FreeWith {
  void operator()(auto* object) const { free(object); }
};
using BigNumber = std::unique_ptr<BIGNUM, FreeWith<BN_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, FreeWith<OSSL_PARAM_BLD_free>>;
using Parameters = std::unique_ptr<OSSL_PARAM, FreeWith<OSSL_PARAM_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, FreeWith<EVP_PKEY_CTX_free>>;
using DigestContext = std::unique_ptr<EVP_MD_CTX, FreeWith<EVP_MD_CTX_free>>;
using EcSignature = std::unique_ptr<ECDSA_SIG, FreeWith<ECDSA_SIG_free>>;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

BigNumber to_number(std::string_view bytes) {
  return BigNumber(BN_bin2bn(bytes_of(bytes), static_cast<int>(bytes.size()), nullptr));
}

// A base64url member of a JWK; empty if it has none.
std::string bytes_in(const json::object& jwk, std::string_view name) {
  const json::value* value = jwk.if_contains(name);
  if (!value || !value->is_string()) return {};
  return from_base64url(value->get_string()).value_or("");
}

bool says(const json::object& jwk, std::string_view name, std::string_view text) {
  const json::value* value = jwk.if_contains(name);
  return value && *value == json::value(text);
}
bool says_if_there(const json::object& jwk, std::string_view name, std::string_view text) {
  return !jwk.contains(name) || says(jwk, name, text);
}

EVP_PKEY* make_key(const char* kind, OSSL_PARAM_BLD* builder) {
  const Parameters parameters(OSSL_PARAM_BLD_to_param(builder));
  const KeyContext context(EVP_PKEY_CTX_new_from_name(nullptr, kind, nullptr));
  EVP_PKEY* key = nullptr;
  if (!parameters || EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) != 1)
    return nullptr;
  return key;
}

EVP_PKEY* rsa_key(const json::object& jwk) {
  const BigNumber n = to_number(bytes_in(jwk, "n")), e = to_number(bytes_in(jwk, "e"));
  if (BN_num_bits(n.get()) < kRsaBitsMin || BN_num_bits(n.get()) > kRsaBitsMax || BN_num_bits(e.get()) > 64 ||
      !BN_is_odd(e.get()) || BN_is_one(e.get()))
    return nullptr;
  const Builder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
  OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  return make_key("RSA", builder.get());
}

EVP_PKEY* p256_key(const json::object& jwk) {
  const std::string x = bytes_in(jwk, "x"), y = bytes_in(jwk, "y");
  if (x.size() != kP256Bytes || y.size() != kP256Bytes) return nullptr;
  const std::string point = '\x04' + x + y;
  const Builder builder(OSSL_PARAM_BLD_new());
  OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
  OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  return make_key("EC", builder.get());
}

EVP_PKEY* ed25519_key(const json::object& jwk) {
  const std::string x = bytes_in(jwk, "x");
  return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, bytes_of(x), x.size());
}

// A JWS has r and s side by side; OpenSSL wants them in DER.
std::string to_der(std::string_view signature) {
  if (signature.size() != 2 * kP256Bytes) return {};
  const EcSignature pair(ECDSA_SIG_new());
  ECDSA_SIG_set0(pair.get(), to_number(signature.substr(0, kP256Bytes)).release(),
                 to_number(signature.substr(kP256Bytes)).release());
  std::string der(static_cast<size_t>(i2d_ECDSA_SIG(pair.get(), nullptr)), '\0');
  auto* out = reinterpret_cast<unsigned char*>(der.data());
  i2d_ECDSA_SIG(pair.get(), &out);
  return der;
}

struct KeyKindRow {
  SigningAlgorithm algorithm;
  std::string_view kty, crv;  // crv: empty where there is none
  EVP_PKEY* (*make)(const json::object& jwk);
};
constexpr KeyKindRow kKinds[] = {{SigningAlgorithm::rs256, "RSA", "", rsa_key},
                                 {SigningAlgorithm::es256, "EC", "P-256", p256_key},
                                 {SigningAlgorithm::eddsa, "OKP", "Ed25519", ed25519_key}};

bool is_of_kind(const json::object& jwk, const KeyKindRow& kind) {
  return says(jwk, "kty", kind.kty) && (kind.crv.empty() || says(jwk, "crv", kind.crv)) &&
         says_if_there(jwk, "alg", enum_name(kind.algorithm)) && says_if_there(jwk, "use", "sig");
}

bool is_signed(EVP_PKEY* key, SigningAlgorithm algorithm, std::string_view text, std::string_view signature) {
  const std::string der = algorithm == SigningAlgorithm::es256 ? to_der(signature) : std::string(signature);
  const EVP_MD* digest = algorithm == SigningAlgorithm::eddsa ? nullptr : EVP_sha256();
  const DigestContext context(EVP_MD_CTX_new());
  return !der.empty() && EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key) == 1 &&
         EVP_DigestVerify(context.get(), bytes_of(der), der.size(), bytes_of(text), text.size()) == 1;
}

}  // namespace

SigningKeys SigningKeys::parse(const json::value& document) {
  const json::value* list = document.is_object() ? document.get_object().if_contains("keys") : nullptr;
  if (!list || !list->is_array())
    throw Error(ErrorCode::data_loss, "the provider's JWKS document has no keys");
  SigningKeys keys;
  for (const json::value& jwk : list->get_array()) {
    if (!jwk.is_object() || keys.keys_.size() == kKeysMax) continue;
    for (const KeyKindRow& kind : kKinds) {
      if (!is_of_kind(jwk.get_object(), kind)) continue;
      Key key{.kid = {},
              .algorithm = kind.algorithm,
              .key = std::unique_ptr<EVP_PKEY, Free>(kind.make(jwk.get_object()))};
      if (const json::value* kid = jwk.get_object().if_contains("kid"); kid && kid->is_string())
        key.kid = std::string(kid->get_string());
      if (key.key) keys.keys_.push_back(std::move(key));
    }
  }
  return keys;
}

bool SigningKeys::has(std::string_view kid) const {
  return std::ranges::any_of(keys_, [&](const Key& key) { return kid.empty() || key.kid == kid; });
}

bool SigningKeys::verify(SigningAlgorithm algorithm, std::string_view kid, std::string_view text,
                         std::string_view signature) const {
  return std::ranges::any_of(keys_, [&](const Key& key) {
    return (kid.empty() || key.kid == kid) && key.algorithm == algorithm &&
           is_signed(key.key.get(), algorithm, text, signature);
  });
}

}  // namespace neutrino::cloud
