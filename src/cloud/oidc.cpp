#include "cloud/oidc.h"

#include <openssl/evp.h>

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "cloud/api_key.h"
#include "cloud/base64url.h"
#include "cloud/secret_box.h"
#include "net/fetch.h"
#include "net/url.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kRandomCharacters = 48;  // PKCE asks for 43 to 128

using Pairs = std::vector<std::pair<std::string_view, std::string>>;

std::string encode_form(const Pairs& pairs) {
  std::string text;
  for (const auto& [name, value] : pairs)
    text += fmt::format("{}{}={}", text.empty() ? "" : "&", name, net::percent_encode(value));
  return text;
}

// Basic credentials need the alphabet and the padding of plain base64.
std::string to_base64(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(size));
  return text;
}

std::string code_challenge(std::string_view verifier) {
  const Sha256Digest digest = sha256(verifier);
  return to_base64url({reinterpret_cast<const char*>(digest.data()), digest.size()});
}

net::Url option_url(std::string_view name, const std::string& text) {
  try {
    net::Url url = net::Url::parse(text);
    net::require_fetchable(url);
    return url;
  } catch (const Error& error) {
    throw make_error(ErrorCode::invalid_argument, "the option {}: {}", name, error.message());
  }
}

Error provider_fails(std::string_view what) {
  return make_error(ErrorCode::unavailable, "the OpenID provider does not do its part: {:.300}", what)
      .with_reason("provider_unavailable");
}

struct JsonAnswer {
  int status = 0;
  json::object body;  // empty: none, or no object
};

JsonAnswer ask(net::FetchRequest request) {
  request.timeout_seconds = limits::kOidcTimeoutSeconds;
  request.body_bytes_max = limits::kOidcBodyBytes;
  request.headers.emplace_back("Accept", "application/json");
  try {
    net::Fetcher fetcher;
    const net::FetchResponse response = fetcher.send(request);
    JsonAnswer answer{.status = response.status, .body = {}};
    if (json::value value = parse_json(response.body); value.is_object())
      answer.body = std::move(value.get_object());
    return answer;
  } catch (const Error& error) {
    throw provider_fails(error.message());
  }
}

json::object get(const net::Url& url, std::string authorization = {}) {
  JsonAnswer answer = ask({.url = url, .authorization = std::move(authorization)});
  if (answer.status != 200) throw provider_fails(fmt::format("{} answers {}", url.text(), answer.status));
  return std::move(answer.body);
}

std::string text_of(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

// A URL of the provider's description.
std::optional<net::Url> find_url(const json::object& document, std::string_view name) {
  const std::string text = text_of(document, name);
  if (text.empty()) return std::nullopt;
  try {
    net::Url url = net::Url::parse(text);
    net::require_fetchable(url);
    return url;
  } catch (const Error& error) {
    throw provider_fails(fmt::format("its {}: {}", name, error.message()));
  }
}

net::Url need_url(const json::object& document, std::string_view name) {
  const auto url = find_url(document, name);
  if (!url) throw provider_fails(fmt::format("its description has no {}", name));
  return *url;
}

// A client's secret is sent in a header, as all providers must support, unless this one says that it does not.
bool wants_secret_in_body(const json::object& document) {
  const json::value* methods = document.if_contains("token_endpoint_auth_methods_supported");
  return methods && methods->is_array() &&
         std::ranges::find(methods->get_array(), json::value("client_secret_basic")) ==
             methods->get_array().end();
}

class Permit {
 public:
  explicit Permit(std::counting_semaphore<limits::kOidcCalls>& calls) : calls_(calls) {
    if (!calls.try_acquire())
      throw Error(ErrorCode::unavailable, "too many sign-ins wait for the OpenID provider: try again")
          .with_reason("server_busy");
  }
  ~Permit() { calls_.release(); }
  Permit(const Permit&) = delete;

 private:
  std::counting_semaphore<limits::kOidcCalls>& calls_;
};

}  // namespace

struct OidcProvider::Description {
  net::Url authorization, token;
  std::optional<net::Url> userinfo;
  bool secret_in_body = false;
  SigningKeys keys;
};

struct OidcProvider::Tokens {
  std::string id_token, access_token;
};

OidcOptions read_oidc_options(const std::filesystem::path& file) {
  OidcOptions options;
  const std::string text = read_file(file, static_cast<size_t>(limits::kOidcBodyBytes));
  try {
    read_json(options, parse_json(text), Accept::from_client);
  } catch (const Error& error) {
    throw make_error(ErrorCode::invalid_argument, "{}: {}", file.string(), error.message());
  }
  if (!options.client_secret.empty()) require_private_file(file);
  return options;
}

OidcFlow OidcFlow::start() {
  return {.state = random_text(kRandomCharacters),
          .nonce = random_text(kRandomCharacters),
          .verifier = random_text(kRandomCharacters)};
}

OidcProvider::OidcProvider(OidcOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock) {
  option_url("issuer", options_.issuer);
  option_url("public_url", options_.public_url);
  if (options_.client_id.empty())
    throw Error(ErrorCode::invalid_argument, "the option client_id is needed beside the issuer");
  if (options_.scopes.find("openid") == std::string::npos)
    throw make_error(ErrorCode::invalid_argument, "the option scopes must contain openid, got \"{}\"",
                     options_.scopes);
}

std::string OidcProvider::redirect_uri() const {
  std::string url = options_.public_url;
  while (url.ends_with('/')) url.pop_back();
  return url + "/api/v1/login/oidc/callback";
}

std::string OidcProvider::authorization_url(const OidcFlow& flow) {
  const std::string& endpoint = description()->authorization.text();
  return endpoint + (endpoint.find('?') == std::string::npos ? "?" : "&") +
         encode_form({{"response_type", "code"},
                      {"client_id", options_.client_id},
                      {"redirect_uri", redirect_uri()},
                      {"scope", options_.scopes},
                      {"state", flow.state},
                      {"nonce", flow.nonce},
                      {"code_challenge", code_challenge(flow.verifier)},
                      {"code_challenge_method", "S256"}});
}

std::string OidcProvider::verified_email(const OidcFlow& flow, const std::string& code) {
  const auto provider = description();
  const Permit permit(free_calls_);
  const Tokens tokens = exchange(*provider, flow, code);
  const IdClaims claims = verify(*provider, flow, tokens.id_token);
  std::string email = claims.email;
  if (email.empty() && provider->userinfo && !tokens.access_token.empty()) {
    const json::object person = get(*provider->userinfo, "Bearer " + tokens.access_token);
    if (text_of(person, "sub") == claims.subject) email = cloud::verified_email(person);
  }
  if (!email.empty()) return email;
  throw Error(ErrorCode::permission_denied, "the OpenID provider gives no verified email address for you")
      .with_reason("email_not_verified");
}

// ---- the provider's description

std::shared_ptr<const OidcProvider::Description> OidcProvider::description() {
  {
    const std::lock_guard held(mutex_);
    const int64_t now_ns = clock_.now_ns();
    if (known_ && now_ns < known_until_ns_) return known_;
    if (now_ns < silent_until_ns_) throw provider_fails("it did not answer a moment ago");
  }
  const Permit permit(free_calls_);
  return ask_again();
}

std::shared_ptr<const OidcProvider::Description> OidcProvider::ask_again() {
  try {
    auto asked = std::make_shared<const Description>(describe());
    const std::lock_guard held(mutex_);
    known_until_ns_ = clock_.now_ns() + limits::kOidcDescriptionSeconds * kSecondNs;
    return known_ = std::move(asked);
  } catch (const Error&) {
    const std::lock_guard held(mutex_);
    silent_until_ns_ = clock_.now_ns() + limits::kOidcRetrySeconds * kSecondNs;
    throw;
  }
}

OidcProvider::Description OidcProvider::describe() const {
  std::string base = options_.issuer;
  while (base.ends_with('/')) base.pop_back();
  const json::object document = get(net::Url::parse(base + "/.well-known/openid-configuration"));
  if (text_of(document, "issuer") != options_.issuer)
    throw provider_fails(
        fmt::format("it calls itself '{}', not '{}'", text_of(document, "issuer"), options_.issuer));
  return {.authorization = need_url(document, "authorization_endpoint"),
          .token = need_url(document, "token_endpoint"),
          .userinfo = find_url(document, "userinfo_endpoint"),
          .secret_in_body = wants_secret_in_body(document),
          .keys = SigningKeys::parse(get(need_url(document, "jwks_uri")))};
}

// ---- from a code to a person

OidcProvider::Tokens OidcProvider::exchange(const Description& provider, const OidcFlow& flow,
                                            const std::string& code) const {
  const std::string &id = options_.client_id, &secret = options_.client_secret;
  Pairs form{{"grant_type", "authorization_code"},
             {"code", code},
             {"redirect_uri", redirect_uri()},
             {"code_verifier", flow.verifier}};
  const bool in_header = !secret.empty() && !provider.secret_in_body;
  if (!in_header) form.emplace_back("client_id", id);
  if (!in_header && !secret.empty()) form.emplace_back("client_secret", secret);
  const std::string credentials = net::percent_encode(id) + ":" + net::percent_encode(secret);
  const JsonAnswer answer = ask({.url = provider.token,
                                 .headers = {{"Content-Type", "application/x-www-form-urlencoded"}},
                                 .authorization = in_header ? "Basic " + to_base64(credentials) : "",
                                 .method = "POST",
                                 .body = encode_form(form)});
  if (answer.status == 200)
    return {.id_token = text_of(answer.body, "id_token"),
            .access_token = text_of(answer.body, "access_token")};
  const std::string said = text_of(answer.body, "error");
  if (said != "invalid_grant")
    throw provider_fails(fmt::format("its token endpoint answers {} {}", answer.status, said));
  throw Error(ErrorCode::unauthenticated, "the OpenID provider does not take the code: start again")
      .with_reason("bad_code");
}

// A provider changes its keys now and then: for one that is not known it is asked once more.
IdClaims OidcProvider::verify(const Description& provider, const OidcFlow& flow,
                              const std::string& id_token) {
  const IdTokenRules rules{.issuer = options_.issuer,
                           .client_id = options_.client_id,
                           .nonce = flow.nonce,
                           .now_ms = clock_.unix_ms()};
  try {
    return verify_id_token(id_token, provider.keys, rules);
  } catch (const Error& error) {
    if (error.reason() != "unknown_signing_key") throw;
  }
  return verify_id_token(id_token, ask_again()->keys, rules);
}

}  // namespace neutrino::cloud
