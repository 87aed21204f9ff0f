// A table of tokens that are good, and of each way in which one is not.
#include "cloud/id_token.h"

#include <gtest/gtest.h>
#include <openssl/hmac.h>

#include "base/error.h"
#include "base/fields.h"
#include "cloud/base64url.h"
#include "cloud/testing/token_signer.h"

namespace neutrino::cloud {
namespace {

using testing::token_with;
using testing::TokenSigner;

constexpr int64_t kNow = 1'700'000'000;  // seconds

json::object good_claims() {
  return {{"iss", "https://id.example.org"},
          {"aud", "neutrino"},
          {"exp", kNow + 300},
          {"iat", kNow - 5},
          {"nonce", "n-1"},
          {"sub", "u1"},
          {"email", "Ada@Example.org"},
          {"email_verified", true}};
}
json::object with(std::string_view name, json::value value) {
  json::object claims = good_claims();
  claims[name] = std::move(value);
  return claims;
}
json::object without(std::string_view name) {
  json::object claims = good_claims();
  claims.erase(name);
  return claims;
}

// Keys take a while to make: each once.
const TokenSigner& signer_of(SigningAlgorithm algorithm) {
  static const TokenSigner rsa(SigningAlgorithm::rs256, "r1"), ec(SigningAlgorithm::es256, "e1"),
      ed(SigningAlgorithm::eddsa, "o1");
  return algorithm == SigningAlgorithm::rs256 ? rsa : algorithm == SigningAlgorithm::es256 ? ec : ed;
}

class IdTokenTest : public ::testing::Test {
 protected:
  static SigningKeys keys_of(const std::vector<const TokenSigner*>& signers) {
    json::array list;
    for (const TokenSigner* signer : signers) list.push_back(signer->jwk());
    return SigningKeys::parse(json::object{{"keys", std::move(list)}});
  }
  // What verify_id_token() says; empty: the token is good.
  std::string refusal(const std::string& token) { return refusal(token, keys_of({&rsa_, &ec_, &ed_})); }
  static std::string refusal(const std::string& token, const SigningKeys& keys) {
    try {
      verify_id_token(token, keys,
                      {.issuer = "https://id.example.org",
                       .client_id = "neutrino",
                       .nonce = "n-1",
                       .now_ms = kNow * 1000});
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unauthenticated);
      return error.reason() + ": " + error.message();
    }
    return "";
  }

  const TokenSigner &rsa_ = signer_of(SigningAlgorithm::rs256), &ec_ = signer_of(SigningAlgorithm::es256),
                    &ed_ = signer_of(SigningAlgorithm::eddsa);
};

TEST_F(IdTokenTest, good_tokens_of_each_algorithm) {
  for (const TokenSigner* signer : {&rsa_, &ec_, &ed_}) {
    const std::string token = signer->sign(good_claims());
    EXPECT_EQ(refusal(token), "");
    const IdClaims claims = verify_id_token(
        token, keys_of({signer}),
        {.issuer = "https://id.example.org", .client_id = "neutrino", .nonce = "n-1", .now_ms = kNow * 1000});
    EXPECT_EQ(claims.subject, "u1");
    EXPECT_EQ(claims.email, "Ada@Example.org");
  }
  EXPECT_EQ(refusal(rsa_.sign({{"alg", "RS256"}}, good_claims())), "") << "without kid: any key that fits";
  EXPECT_EQ(refusal(rsa_.sign(with("aud", json::array{"neutrino"}))), "");
}

TEST_F(IdTokenTest, claims_that_are_not_ours_are_refused) {
  json::object several = with("aud", json::array{"neutrino", "other"});
  const std::pair<json::object, std::string_view> rows[] = {
      {with("iss", "https://evil.example.org"), "issuer"},
      {with("iss", "https://id.example.org/"), "issuer"},
      {without("iss"), "issuer"},
      {with("aud", "other"), "another client"},
      {with("aud", json::array{"other"}), "another client"},
      {without("aud"), "another client"},
      {several, "issued to another"},
      {with("azp", "other"), "issued to another"},
      {with("exp", kNow - 61), "expired"},
      {with("exp", "never"), "expired"},
      {without("exp"), "expired"},
      {with("iat", kNow + 120), "future"},
      {with("nbf", kNow + 120), "not valid yet"},
      {with("nonce", "n-2"), "this sign-in"},
      {without("nonce"), "this sign-in"},
      {without("sub"), "nobody"},
  };
  for (const auto& [claims, reason] : rows)
    EXPECT_NE(refusal(rsa_.sign(claims)).find(reason), std::string::npos) << to_text(claims);
  several["azp"] = "neutrino";
  EXPECT_EQ(refusal(rsa_.sign(several)), "");
}

std::string hs256(const json::object& claims, const std::string& secret) {
  const json::object header{{"alg", "HS256"}, {"kid", "r1"}};
  const std::string text = to_base64url(to_text(header)) + "." + to_base64url(to_text(claims));
  unsigned char mac[32];
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), mac, nullptr);
  return token_with(header, claims, {reinterpret_cast<const char*>(mac), 32});
}

TEST_F(IdTokenTest, signatures_that_are_not_the_providers_are_refused) {
  const TokenSigner forger(SigningAlgorithm::rs256, "r1");
  const std::string good = rsa_.sign(good_claims());
  const std::string foreign_body = good.substr(0, good.find('.')) + "." +
                                   to_base64url(to_text(with("email", "root@example.org"))) +
                                   good.substr(good.rfind('.'));
  const json::object none{{"alg", "none"}};
  const std::pair<std::string, std::string_view> rows[] = {
      {forger.sign(good_claims()), "signature"},
      {foreign_body, "signature"},
      {good.substr(0, good.rfind('.') + 1), "signature"},
      {token_with(none, good_claims(), ""), "algorithm"},
      {token_with({{"alg", "None"}, {"kid", "r1"}}, good_claims(), ""), "algorithm"},
      {token_with({}, good_claims(), ""), "algorithm"},
      {hs256(good_claims(), rsa_.public_pem()), "algorithm"},
      {hs256(good_claims(), std::string(rsa_.jwk()["n"].as_string())), "algorithm"},
      {rsa_.sign({{"alg", "ES256"}, {"kid", "r1"}}, good_claims()), "signature"},
      {rsa_.sign({{"alg", "RS512"}, {"kid", "r1"}}, good_claims()), "algorithm"},
      {ec_.sign({{"alg", "RS256"}, {"kid", "e1"}}, good_claims()), "signature"},
      {ed_.sign({{"alg", "EdDSA"}, {"kid", "r1"}}, good_claims()), "signature"},
      {rsa_.sign({{"alg", "RS256"}, {"kid", "r1"}, {"crit", json::array{"b64"}}}, good_claims()),
       "extension"},
      {rsa_.sign({{"alg", "RS256"}, {"kid", "r2"}}, good_claims()), "unknown_signing_key"},
      {token_with({{"alg", "ES256"}, {"kid", "e1"}}, good_claims(), std::string(64, '\0')), "signature"},
      {token_with({{"alg", "ES256"}, {"kid", "e1"}}, good_claims(), "x"), "signature"},
      {"", "three parts"},
      {"a.b", "three parts"},
      {"a.b.c.d", "three parts"},
      {"!.!.!", "base64url"},
      {"e30.e30", "three parts"},
      {"W10.e30.", "JSON object"},
      {good + "\n", "base64url"},
  };
  for (const auto& [token, reason] : rows)
    EXPECT_NE(refusal(token).find(reason), std::string::npos) << token << "\n" << refusal(token);
}

TEST_F(IdTokenTest, an_email_counts_only_if_it_was_verified) {
  EXPECT_EQ(verified_email(good_claims()), "Ada@Example.org");
  EXPECT_EQ(verified_email(with("email_verified", false)), "");
  EXPECT_EQ(verified_email(with("email_verified", "true")), "");
  EXPECT_EQ(verified_email(without("email_verified")), "");
}

TEST_F(IdTokenTest, keys_that_cannot_sign_are_passed_over) {
  json::object weak = rsa_.jwk();
  weak["n"] = to_base64url(std::string(128, '\xff'));  // 1024 bits
  json::object other_use = rsa_.jwk();
  other_use["use"] = "enc";
  json::object other_algorithm = rsa_.jwk();
  other_algorithm["alg"] = "RSA-OAEP";
  json::object off_curve = ec_.jwk();
  off_curve["y"] = off_curve["x"];
  json::object other_curve = ec_.jwk();
  other_curve["crv"] = "P-384";
  json::object shared{{"kty", "oct"}, {"k", "c2VjcmV0"}, {"alg", "HS256"}};
  json::object even = rsa_.jwk();
  even["e"] = to_base64url(std::string("\x02"));
  const json::array list{weak, other_use, other_algorithm, off_curve, other_curve, shared, even, nullptr};
  EXPECT_EQ(SigningKeys::parse(json::object{{"keys", list}}).size(), 0u);
  for (const json::value& document :
       {json::value(nullptr), json::value(json::array{}), json::value(json::object{})})
    EXPECT_THROW(SigningKeys::parse(document), Error);
}

}  // namespace
}  // namespace neutrino::cloud
