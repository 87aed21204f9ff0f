// An OpenID provider's keys, for tests: its JWKS document, and the tokens that it signs.
#pragma once

#include <openssl/evp.h>

#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"
#include "cloud/id_token.h"

namespace neutrino::cloud::testing {

class TokenSigner {
 public:
  TokenSigner(SigningAlgorithm algorithm, std::string kid);

  json::object jwk() const;
  std::string sign(const json::object& claims) const;
  // A token with any header; the signature is this key's over it.
  std::string sign(const json::object& header, const json::object& claims) const;
  std::string public_pem() const;

 private:
  struct Free {
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
  };
  SigningAlgorithm algorithm_;
  std::string kid_;
  std::unique_ptr<EVP_PKEY, Free> key_;
};

// The same parts with any signature.
std::string token_with(const json::object& header, const json::object& claims, std::string_view signature);

}  // namespace neutrino::cloud::testing
