// ID tokens of OpenID Connect: a provider's signed word on who somebody is (JWS compact serialisation, RFC 7515; OpenID Connect Core
// 1.0, section 3.1.3.7).
//
// A token names its own algorithm, which is where verifiers have gone wrong. Here an algorithm belongs to a key, by the key's kind; the
// token's must be that one. There is no "none", and nothing symmetric: a public key is never taken for a shared secret.
#pragma once

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace neutrino::cloud {

enum class SigningAlgorithm : uint8_t { rs256, es256, eddsa };
constexpr std::array<std::string_view, 3> enum_names(SigningAlgorithm) { return {"RS256", "ES256", "EdDSA"}; }

// A provider's public keys, from its JWKS document (RFC 7517).
class SigningKeys {
 public:
  // Keys of other kinds, other curves and other uses are passed over, RSA keys below 2048 bits too. Throws Error{data_loss} for what is
  // no JWKS at all.
  static SigningKeys parse(const json::value& document);

  // Is `signature` one of these keys' over `text`? `kid`: the key's name; empty: any.
  bool verify(SigningAlgorithm algorithm, std::string_view kid, std::string_view text,
              std::string_view signature) const;
  bool has(std::string_view kid) const;  // empty: is there any
  size_t size() const { return keys_.size(); }

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  struct Key {
    std::string kid;
    SigningAlgorithm algorithm;
    std::unique_ptr<EVP_PKEY, Free> key;
  };

  std::vector<Key> keys_;
};

// What a token must say.
struct IdTokenRules {
  std::string issuer;
  std::string client_id;
  std::string nonce;
  int64_t now_ms = 0;  // Unix time
};

struct IdClaims {
  std::string subject;
  std::string email;  // only if the provider says that it was verified; else empty
};

// Throws Error{unauthenticated}: reason unknown_signing_key where the keys lack the token's (they may have been changed meanwhile), else
// bad_id_token, in words that say what is wrong.
IdClaims verify_id_token(std::string_view token, const SigningKeys& keys, const IdTokenRules& rules);

// `email` of claims, if `email_verified` is true.
std::string verified_email(const json::object& claims);

}  // namespace neutrino::cloud
