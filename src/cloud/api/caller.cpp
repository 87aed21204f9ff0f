#include "cloud/api/caller.h"

#include <algorithm>

#include "cloud/api_key.h"
#include "net/presented_key.h"

namespace neutrino::cloud {
namespace {

Error refused(std::string message, std::string reason) {
  return Error(ErrorCode::unauthenticated, std::move(message)).with_reason(std::move(reason));
}

bool is_past(int64_t expires_ms, int64_t now_ms) { return expires_ms != 0 && now_ms >= expires_ms; }

// A row by a column that is unique.
template <typename T>
std::optional<T> find_one(store::Transaction& tx, const store::Table<T>& table,
                          std::vector<store::Filter> filters) {
  std::vector<T> rows = table.list(tx, {.filters = std::move(filters), .limit = 1}).rows;
  if (rows.empty()) return std::nullopt;
  return std::move(rows.front());
}

bool is_platform(store::Transaction& tx, const Tables& tables, std::string_view email) {
  const std::vector<Member> all = members_of(tx, tables, email);
  return std::any_of(all.begin(), all.end(), [](const Member& m) { return m.platform; });
}

// ---- keys

KeyRow good_key(store::Transaction& tx, const Tables& tables, std::string_view text, int64_t now_ms,
                std::string_view peer_address) {
  const std::string digest = key_digest(text);
  const auto key = find_one(tx, tables.keys, {{.field = "digest", .value = digest}});
  if (!key || !equal_in_constant_time(key->digest, digest))
    throw refused("this API key is not known", "unknown_key");
  if (key->revoked_ms != 0) throw refused("this API key was revoked", "revoked_key");
  if (is_past(key->expires_ms, now_ms)) throw refused("this API key has expired", "expired_key");
  if (!address_allowed(key->limits.addresses, peer_address))
    throw make_error(ErrorCode::permission_denied, "this API key may not be used from {}", peer_address)
        .with_reason("address_not_allowed");
  if (key->api_role.empty())
    throw Error(ErrorCode::permission_denied, "this API key is not for the API: it has no api_role")
        .with_reason("insufficient_scope");
  return *key;
}

Caller caller_of_key(store::Transaction& tx, const Tables& tables, const KeyRow& key) {
  const auto role = enum_from_name<Role>(key.api_role);
  check(role.has_value(), "a key's api_role is checked when it is written");
  Caller caller{.workspace = key.workspace,
                .role = *role,
                .platform = key.platform,
                .actor = "key:" + key.name,
                .member = key.member,
                .key = key.id};
  if (key.member.empty()) return caller;
  const auto member = tables.members.find(tx, key.member);
  if (!member) throw refused("this API key's member was removed", "revoked_key");
  caller.role = std::min(caller.role, member->role);
  caller.platform = key.platform && is_platform(tx, tables, member->email);
  return caller;
}

// ---- sessions

Session good_session(store::Transaction& tx, const Tables& tables, std::string_view token, int64_t now_ms) {
  const auto session = tables.sessions.find(tx, key_digest(token));
  if (!session) throw refused("this session is not known: it ended, or was signed out", "unknown_session");
  if (is_past(session->expires_ms, now_ms))
    throw refused("this session has expired: sign in again", "expired_session");
  return *session;
}

// The member that a session acts as; null: it is of no workspace at all.
const Member* chosen_member(store::Transaction& tx, const Tables& tables, const std::vector<Member>& members,
                            std::string_view wanted) {
  if (wanted.empty()) return members.empty() ? nullptr : &members.front();
  for (const Member& member : members) {
    if (member.workspace == wanted) return &member;
    const auto workspace = tables.workspaces.find(tx, member.workspace);
    if (workspace && workspace->name == wanted) return &member;
  }
  throw make_error(ErrorCode::not_found, "there is no workspace '{:.100}'", wanted)
      .with_reason("workspace_not_found")
      .with_param("X-Workspace");
}

Caller caller_of_session(store::Transaction& tx, const Tables& tables, const Session& session,
                         std::string_view workspace) {
  Caller caller{.actor = "member:" + session.email, .email = session.email};
  const std::vector<Member> members = members_of(tx, tables, session.email);
  const Member* const member = chosen_member(tx, tables, members, workspace);
  if (!member) return caller;
  caller.workspace = member->workspace;
  caller.member = member->id;
  caller.role = member->role;
  caller.platform = std::any_of(members.begin(), members.end(), [](const Member& m) { return m.platform; });
  return caller;
}

}  // namespace

std::string lower_email(std::string_view email) {
  std::string lower(email);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return lower;
}

std::vector<Member> members_of(store::Transaction& transaction, const Tables& tables,
                               std::string_view email) {
  return tables.members
      .list(transaction, {.filters = {{.field = "email", .value = std::string(email)}},
                          .order_by = "created_ms",
                          .limit = limits::kStorePageRows})
      .rows;
}

bool allows(const Caller& caller, Needs needs) {
  if (needs == Needs::nothing) return true;
  if (caller.workspace.empty()) return false;
  if (needs == Needs::platform) return caller.platform;
  const Role least = needs == Needs::admin ? Role::admin : needs == Needs::user ? Role::user : Role::viewer;
  return caller.role >= least;
}

Caller find_caller(const net::Request& request, store::Transaction& transaction, const Tables& tables,
                   int64_t now_ms, std::string_view peer_address) {
  const std::string_view token = net::presented_key(request);
  if (token.empty())
    throw refused("an API key or a session token is needed: Authorization: Bearer KEY", "missing_key");
  switch (key_kind(token).value_or(KeyKind::one_time)) {
    case KeyKind::api_key:
      return caller_of_key(transaction, tables, good_key(transaction, tables, token, now_ms, peer_address));
    case KeyKind::session:
      return caller_of_session(transaction, tables, good_session(transaction, tables, token, now_ms),
                               request.header("x-workspace"));
    case KeyKind::one_time: break;
  }
  throw refused("this is no API key and no session token: it is mistyped or cut, or of another product",
                "malformed_key");
}

}  // namespace neutrino::cloud
