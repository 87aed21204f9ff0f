// Signing in and out, and who am I. A sign-in begins a session, whose token is used as an API key is: Authorization: Bearer.
#include "cloud/api/login.h"

#include "cloud/api/caller.h"
#include "cloud/api/struct_schema.h"
#include "cloud/api_key.h"
#include "net/presented_key.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

struct OneTimeKeyBody {
  std::string key;
  static constexpr auto fields() {
    return std::tuple(
        field("key", &OneTimeKeyBody::key, {.help = "a one-time key or code: it is good once"}));
  }
};

struct SignedInBody {
  std::string token, email;
  int64_t expires_ms = 0;
  static constexpr auto fields() {
    using S = SignedInBody;
    return std::tuple(field("token", &S::token, {.help = "for Authorization: Bearer"}),
                      field("expires_ms", &S::expires_ms, {.help = "Unix time"}), field("email", &S::email));
  }
};

ApiAnswer use_key(const Tables& tables, ApiCall& call, Transaction& tx) {
  OneTimeKeyBody body;
  read_json(body, call.body, Accept::from_client);
  const SignedIn session = use_one_time_key(tx, tables, body.key, call.now_ms);
  call.caller = signed_in_caller(tx, tables, session.email);
  return {.body = session_json(session)};
}

ApiAnswer sign_out(const Tables& tables, ApiCall& call, Transaction& tx) {
  call.caller = find_caller(call.http, tx, tables, call.now_ms, net::peer_address(call.http));
  if (!call.caller.key.empty())
    throw Error(ErrorCode::failed_precondition, "an API key has no session to end: revoke it instead")
        .with_reason("no_session");
  tables.sessions.erase(tx, tables.sessions.get(tx, key_digest(net::presented_key(call.http))));
  return {.status = 204};
}

// ---- who am I

json::value workspace_json(const Tables& tables, Transaction& tx, const std::string& id) {
  const auto workspace = tables.workspaces.find(tx, id);
  if (!workspace) return nullptr;
  return json::object{{"id", workspace->id}, {"name", workspace->name}};
}

json::array memberships(const Tables& tables, Transaction& tx, const std::string& email) {
  json::array all;
  for (const Member& member : members_of(tx, tables, email)) {
    json::value workspace = workspace_json(tables, tx, member.workspace);
    if (workspace.is_null()) continue;
    workspace.get_object()["role"] = enum_name(member.role);
    all.push_back(std::move(workspace));
  }
  return all;
}

ApiAnswer who_am_i(const Tables& tables, ApiCall& call, Transaction& tx) {
  const Caller caller = find_caller(call.http, tx, tables, call.now_ms, net::peer_address(call.http));
  const auto member = tables.members.find(tx, caller.member);
  const json::value workspace = workspace_json(tables, tx, caller.workspace);
  return {.body = json::object{
              {"actor", caller.actor},
              {"email", member ? member->email : caller.email},
              {"workspace", workspace},
              {"role", workspace.is_null() ? json::value(nullptr) : json::value(enum_name(caller.role))},
              {"platform", caller.platform},
              {"member", caller.member},
              {"key", caller.key},
              {"workspaces",
               caller.key.empty() ? memberships(tables, tx, caller.email) : json::array{workspace}}}};
}

}  // namespace

Caller signed_in_caller(Transaction& transaction, const Tables& tables, const std::string& email) {
  Caller caller{.actor = "member:" + email, .email = email};
  const std::vector<Member> members = members_of(transaction, tables, email);
  if (!members.empty()) caller.workspace = members.front().workspace;
  return caller;
}

json::object session_json(const SignedIn& session) {
  return {{"token", session.token}, {"expires_ms", session.expires_ms}, {"email", session.email}};
}

std::vector<ApiRoute> login_api(const ApiServices& services) {
  using net::Method;
  const Tables& tables = services.tables;
  std::vector<ApiRoute> routes = oidc_api(services);
  routes.push_back(
      {.spec = {.method = Method::post,
                .path = "/api/v1/login/one-time-key",
                .summary = "a session for a one-time key",
                .answer_schema = struct_schema_text<SignedInBody>(),
                .body_schema = struct_schema_text<OneTimeKeyBody>()},
       .needs = Needs::nothing,
       .handle = [&tables](ApiCall& call, Transaction& tx) { return use_key(tables, call, tx); }});
  routes.push_back(
      {.spec = {.method = Method::post,
                .path = "/api/v1/logout",
                .summary = "end the session that the token is of"},
       .needs = Needs::nothing,
       .handle = [&tables](ApiCall& call, Transaction& tx) { return sign_out(tables, call, tx); }});
  routes.push_back(
      {.spec = {.method = Method::get,
                .path = "/api/v1/me",
                .summary = "who the token is of, and what that one may"},
       .needs = Needs::nothing,
       .handle = [&tables](ApiCall& call, Transaction& tx) { return who_am_i(tables, call, tx); }});
  return routes;
}

}  // namespace neutrino::cloud
