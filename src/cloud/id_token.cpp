#include "cloud/id_token.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/fields.h"
#include "cloud/api_key.h"
#include "cloud/base64url.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

constexpr double kLeewaySeconds = 60;  // between our clock and the provider's

Error bad_token(std::string message) {
  return Error(ErrorCode::unauthenticated, "the ID token is not good: " + std::move(message))
      .with_reason("bad_id_token");
}

std::string text_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

std::optional<double> number_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  if (!value || !value->is_number()) return std::nullopt;
  return value->to_number<double>();
}

// One of a token's first two parts.
json::object decode_part(std::string_view part) {
  const auto bytes = from_base64url(part);
  if (!bytes) throw bad_token("it is not base64url");
  try {
    json::value value = parse_json(*bytes);
    if (value.is_object()) return std::move(value.get_object());
  } catch (const Error&) {
  }
  throw bad_token("it holds no JSON object");
}

struct TokenParts {
  std::string_view signed_text;  // header and claims as they were sent
  json::object header, claims;
  std::string signature;
};

TokenParts split(std::string_view token) {
  const size_t first = token.find('.'), last = token.rfind('.');
  if (first == token.npos || first == last || token.find('.', first + 1) != last ||
      std::ssize(token) > limits::kIdTokenBytes)
    throw bad_token("it has not three parts");
  const auto signature = from_base64url(token.substr(last + 1));
  if (!signature) throw bad_token("its signature is not base64url");
  return {.signed_text = token.substr(0, last),
          .header = decode_part(token.substr(0, first)),
          .claims = decode_part(token.substr(first + 1, last - first - 1)),
          .signature = *signature};
}

void check_signature(const TokenParts& parts, const SigningKeys& keys) {
  const std::string name = text_of(parts.header, "alg");
  const auto algorithm = enum_from_name<SigningAlgorithm>(name);
  if (!algorithm)
    throw bad_token(fmt::format("its algorithm must be RS256, ES256 or EdDSA, not '{:.20}'", name));
  if (parts.header.contains("crit")) throw bad_token("it asks for an extension");
  const std::string kid = text_of(parts.header, "kid");
  if (!keys.has(kid))
    throw make_error(ErrorCode::unauthenticated, "the provider has no key '{:.64}' to sign ID tokens", kid)
        .with_reason("unknown_signing_key");
  if (!keys.verify(*algorithm, kid, parts.signed_text, parts.signature))
    throw bad_token("its signature is not the provider's");
}

bool is_audience(const json::object& claims, std::string_view client_id) {
  const json::value* aud = claims.if_contains("aud");
  if (aud && aud->is_string()) return aud->get_string() == client_id;
  if (!aud || !aud->is_array()) return false;
  const json::array& all = aud->get_array();
  return std::ranges::find(all, json::value(client_id)) != all.end();
}

// With several audiences, or where it is given, the party that the token was issued to is us.
bool is_authorized_party(const json::object& claims, std::string_view client_id) {
  const json::value* aud = claims.if_contains("aud");
  const bool several = aud && aud->is_array() && aud->get_array().size() > 1;
  const json::value* azp = claims.if_contains("azp");
  return azp ? *azp == json::value(client_id) : !several;
}

void check_claims(const json::object& claims, const IdTokenRules& rules) {
  const double now = static_cast<double>(rules.now_ms) / 1000;
  const auto exp = number_of(claims, "exp"), iat = number_of(claims, "iat"), nbf = number_of(claims, "nbf");
  const struct {
    bool good;
    std::string_view otherwise;
  } rows[] = {
      {text_of(claims, "iss") == rules.issuer, "its issuer is another"},
      {is_audience(claims, rules.client_id), "it is for another client"},
      {is_authorized_party(claims, rules.client_id), "it was issued to another client"},
      {exp && now < *exp + kLeewaySeconds, "it has expired"},
      {iat && *iat <= now + kLeewaySeconds, "it was issued in the future"},
      {!nbf || *nbf <= now + kLeewaySeconds, "it is not valid yet"},
      {!rules.nonce.empty() && equal_in_constant_time(text_of(claims, "nonce"), rules.nonce),
       "it was not made for this sign-in"},
      {!text_of(claims, "sub").empty(), "it names nobody"},
  };
  for (const auto& row : rows)
    if (!row.good) throw bad_token(std::string(row.otherwise));
}

}  // namespace

std::string verified_email(const json::object& claims) {
  const json::value* verified = claims.if_contains("email_verified");
  return verified && verified->is_bool() && verified->get_bool() ? text_of(claims, "email") : std::string();
}

IdClaims verify_id_token(std::string_view token, const SigningKeys& keys, const IdTokenRules& rules) {
  const TokenParts parts = split(token);
  check_signature(parts, keys);
  check_claims(parts.claims, rules);
  return {.subject = text_of(parts.claims, "sub"), .email = verified_email(parts.claims)};
}

}  // namespace neutrino::cloud
