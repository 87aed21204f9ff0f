// Signing in with an OpenID provider (oidc.h), as the browser sees it: away to the provider, and back with a code.
//
//   GET /api/v1/login/oidc                       302 to the provider, and a cookie with what the way back needs, sealed
//   GET /api/v1/login/oidc/callback?code&state   200 with the session, as POST /api/v1/login/one-time-key answers
//
// A terminal opens /api/v1/login/oidc?port=N&state=S in a browser and listens at N on loopback. The browser then ends at
// http://127.0.0.1:N/?code=…&state=S; the code is a one-time key of two minutes, so what stands in the browser's history is of no use.
#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "cloud/api/audit.h"
#include "cloud/api/caller.h"
#include "cloud/api/login.h"
#include "cloud/api/query.h"
#include "cloud/api_key.h"
#include "cloud/oidc.h"
#include "cloud/secret_box.h"
#include "net/url.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

constexpr std::string_view kCookie = "neutrino_sign_in";
constexpr std::string_view kSealContext = "oidc sign-in";
constexpr int64_t kPortMin = 1024, kPortMax = 65535;
constexpr size_t kTerminalStateBytes = 200;

// What the browser carries, sealed, to the provider and back.
struct SignIn {
  std::string state, nonce, verifier;
  int64_t port = 0;  // of the terminal that waits; 0: none
  std::string terminal_state;
  int64_t expires_ms = 0;
  static constexpr auto fields() {
    using S = SignIn;
    return std::tuple(field("state", &S::state), field("nonce", &S::nonce), field("verifier", &S::verifier),
                      field("port", &S::port), field("terminal_state", &S::terminal_state),
                      field("expires_ms", &S::expires_ms));
  }
};

OidcProvider& provider_of(const ApiServices& services) {
  if (services.oidc) return *services.oidc;
  throw Error(ErrorCode::not_found, "sign-in with an OpenID provider is not set up here")
      .with_reason("oidc_not_set_up");
}

std::string cookie(const OidcProvider& provider, std::string_view value, int64_t seconds) {
  const bool https = provider.options().public_url.starts_with("https:");
  return fmt::format("{}={}; Path=/api/v1/login/oidc; Max-Age={}; HttpOnly; SameSite=Lax{}", kCookie, value,
                     seconds, https ? "; Secure" : "");
}

std::string_view cookie_of(const net::Request& request) {
  const std::string name = std::string(kCookie) + "=";
  for (std::string_view rest = request.header("cookie"); !rest.empty();) {
    std::string_view part = rest.substr(0, rest.find(';'));
    rest.remove_prefix(std::min(part.size() + 1, rest.size()));
    part.remove_prefix(std::min(part.find_first_not_of(' '), part.size()));
    if (part.starts_with(name)) return part.substr(name.size());
  }
  return {};
}

ApiAnswer redirect(std::string location, std::string set_cookie) {
  return {.status = 302,
          .body = nullptr,
          .text = {},
          .content_type = "text/plain",
          .headers = {{"Location", std::move(location)},
                      {"Set-Cookie", std::move(set_cookie)},
                      {"Referrer-Policy", "no-referrer"}}};
}

// ---- away

// A terminal's own mark, which it gets back: it knows by it that the browser answers its question.
std::string terminal_state(const ApiCall& call) {
  const std::string state = query_text(call.query, "state");
  const auto is_good = [](char c) { return c > ' ' && c < 127; };
  if (state.size() <= kTerminalStateBytes && std::ranges::all_of(state, is_good)) return state;
  throw make_error(ErrorCode::invalid_argument, "state must be at most {} printable characters",
                   kTerminalStateBytes)
      .with_param("state");
}

void prepare_start(const ApiServices& services, ApiCall& call) {
  OidcProvider& provider = provider_of(services);
  allow_only(call.query, {"port", "state"});
  const OidcFlow flow = OidcFlow::start();
  const SignIn sign_in{
      .state = flow.state,
      .nonce = flow.nonce,
      .verifier = flow.verifier,
      .port = call.query.contains("port") ? query_integer(call.query, "port", 0, kPortMin, kPortMax) : 0,
      .terminal_state = terminal_state(call),
      .expires_ms = call.now_ms + limits::kOidcFlowSeconds * 1000};
  call.prepared["location"] = provider.authorization_url(flow);
  call.prepared["cookie"] = cookie(provider, services.secrets.seal(to_text(to_json(sign_in)), kSealContext),
                                   limits::kOidcFlowSeconds);
}

ApiAnswer start(ApiCall& call, Transaction&) {
  return redirect(std::string(call.prepared.at("location").as_string()),
                  std::string(call.prepared.at("cookie").as_string()));
}

// ---- and back

Error lost(const OidcProvider& provider, std::string_view why) {
  return make_error(ErrorCode::unauthenticated, "{}: start again at {}/api/v1/login/oidc", why,
                    provider.options().public_url)
      .with_reason("sign_in_lost");
}

SignIn open_cookie(const ApiServices& services, const OidcProvider& provider, const ApiCall& call) {
  const std::string_view sealed = cookie_of(call.http);
  if (sealed.empty()) throw lost(provider, "this browser has not begun a sign-in");
  SignIn sign_in;
  try {
    read_json(sign_in, parse_json(services.secrets.open(sealed, kSealContext)), Accept::from_storage);
  } catch (const Error&) {
    throw lost(provider, "this browser's sign-in cannot be read");
  }
  if (sign_in.expires_ms <= call.now_ms) throw lost(provider, "this sign-in took too long");
  return sign_in;
}

// The provider's answer is to this browser's question, and is a yes. Returns its code.
std::string check_answer(const OidcProvider& provider, const SignIn& sign_in, const ApiCall& call) {
  if (!equal_in_constant_time(query_text(call.query, "state"), sign_in.state))
    throw lost(provider, "the provider's answer is not to this browser's sign-in");
  if (call.query.contains("iss") && query_text(call.query, "iss") != provider.options().issuer)
    throw lost(provider, "the answer is of another provider");
  if (call.query.contains("error"))
    throw make_error(ErrorCode::permission_denied, "the OpenID provider refuses: {:.100} {:.300}",
                     query_text(call.query, "error"), query_text(call.query, "error_description"))
        .with_reason("sign_in_refused");
  const std::string code = query_text(call.query, "code");
  if (code.empty() || std::ssize(code) > limits::kOidcTextBytes)
    throw lost(provider, "the provider's answer has no code");
  return code;
}

// Nobody becomes a member by signing in, unless whoever runs this said so.
void require_member(const ApiServices& services, const OidcOptions& options, Transaction& tx,
                    const std::string& email, int64_t now_ms) {
  const Tables& tables = services.tables;
  if (!members_of(tx, tables, email).empty()) return;
  const auto found = tables.workspaces.list(
      tx, {.filters = {{.field = "name", .value = options.auto_join_workspace}}, .limit = 1});
  if (options.auto_join_workspace.empty() || found.rows.empty())
    throw make_error(ErrorCode::permission_denied, "{} is a member of no workspace: an admin has to add you",
                     email)
        .with_reason("no_membership");
  Member member{.id = new_id("mem"),
                .workspace = found.rows.front().id,
                .email = email,
                .role = options.auto_join_role,
                .created_ms = now_ms};
  tables.members.insert(tx, member);
}

// A session, or for a terminal where it finds the code for one.
json::object finish(const ApiServices& services, const SignIn& sign_in, const std::string& email,
                    ApiCall& call) {
  const OidcOptions& options = services.oidc->options();
  return services.database.write([&](Transaction& tx) -> json::object {
    require_member(services, options, tx, email, call.now_ms);
    call.caller = signed_in_caller(tx, services.tables, email);
    note_call(tx, services.tables, call, {.status = sign_in.port == 0 ? 200 : 302});
    if (sign_in.port == 0)
      return {
          {"session", session_json(start_session(tx, services.tables, email, options.issuer, call.now_ms))}};
    const std::string code = make_one_time_key(tx, services.tables, email, options.issuer,
                                               call.now_ms + limits::kOneTimeCodeSeconds * 1000);
    return {{"location", fmt::format("http://127.0.0.1:{}/?code={}&state={}", sign_in.port, code,
                                     net::percent_encode(sign_in.terminal_state))}};
  });
}

void prepare_callback(const ApiServices& services, ApiCall& call) {
  OidcProvider& provider = provider_of(services);
  const SignIn sign_in = open_cookie(services, provider, call);
  const std::string code = check_answer(provider, sign_in, call);
  const OidcFlow flow{.state = sign_in.state, .nonce = sign_in.nonce, .verifier = sign_in.verifier};
  call.prepared = finish(services, sign_in, lower_email(provider.verified_email(flow, code)), call);
}

ApiAnswer callback(const ApiServices& services, ApiCall& call) {
  const std::string gone = cookie(*services.oidc, "", 0);
  if (const json::value* location = call.prepared.if_contains("location"))
    return redirect(std::string(location->as_string()), gone);
  return {.body = call.prepared.at("session"), .headers = {{"Set-Cookie", gone}}};
}

}  // namespace

std::vector<ApiRoute> oidc_api(const ApiServices& services) {
  return {
      {.spec =
           {.method = net::Method::get,
            .path = "/api/v1/login/oidc",
            .query =
                R"([{"name":"port","in":"query","required":false,"schema":{"type":"integer","minimum":1024,"maximum":65535},"description":"of a terminal that listens on loopback for the code"},{"name":"state","in":"query","required":false,"schema":{"type":"string","maxLength":200},"description":"given back to it"}])",
            .summary = "sign in with the OpenID provider: 302 to it"},
       .needs = Needs::nothing,
       .handle = start,
       .prepare = [&services](ApiCall& call) { prepare_start(services, call); }},
      {.spec =
           {.method = net::Method::get,
            .path = "/api/v1/login/oidc/callback",
            .query =
                R"([{"name":"code","in":"query","required":false,"schema":{"type":"string"}},{"name":"state","in":"query","required":false,"schema":{"type":"string"}},{"name":"iss","in":"query","required":false,"schema":{"type":"string"}},{"name":"error","in":"query","required":false,"schema":{"type":"string"}}])",
            .summary = "where the OpenID provider sends the browser back to: a session, or 302 to the "
                       "terminal that waits"},
       .needs = Needs::nothing,
       .handle = [&services](ApiCall& call, Transaction&) { return callback(services, call); },
       .prepare = [&services](ApiCall& call) { prepare_callback(services, call); }}};
}

}  // namespace neutrino::cloud
