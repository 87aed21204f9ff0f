// API keys through the API. A user manages its own, an admin all of the workspace.
//
// Nobody makes a key that may do more than they: not more than their role, and who calls with a key passes that key's own bounds on
// (models, expiry, addresses, rates). A key's text is in the answer to its creation and nowhere else.
#include <algorithm>

#include "cloud/api/caller.h"
#include "cloud/api/collection.h"
#include "cloud/api/field_checks.h"
#include "cloud/api/tenants.h"
#include "cloud/api_key.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

const char* const kText = "key";  // in ApiCall::prepared and the answer: the new key

Error not_allowed(std::string message, std::string param) {
  return Error(ErrorCode::permission_denied, std::move(message))
      .with_reason("insufficient_role")
      .with_param(std::move(param));
}

bool is_admin(const ApiCall& call) { return call.caller.role == Role::admin; }

// Who is no admin sees what its member has; a key of no member sees itself.
bool is_own(const ApiCall& call, const KeyRow& key) {
  return is_admin(call) ||
         (call.caller.member.empty() ? key.id == call.caller.key : key.member == call.caller.member);
}

std::vector<store::Filter> only_own(const ApiCall& call) {
  if (is_admin(call)) return {};
  if (call.caller.member.empty()) return {{.field = "id", .value = call.caller.key}};
  return {{.field = "member", .value = call.caller.member}};
}

// ---- what is wrong with a key by itself

void check_values(const ApiCall& call, const KeyRow& key, const KeyRow* before) {
  check_name("name", key.name, limits::kNameBytes);
  if (!key.api_role.empty() && !enum_from_name<Role>(key.api_role))
    refuse_field("api_role", "viewer, user, admin or empty", key.api_role);
  if (key.platform && key.api_role.empty())
    refuse_field("platform", "false for a key without api_role", "true");
  check_count("models", std::ssize(key.models), limits::kKeyModels);
  for (size_t i = 0; i < key.models.size(); ++i) {
    const std::string path = fmt::format("models[{}]", i);
    if (key.models[i].empty()) refuse_field(path, "the name of an endpoint", "");
    check_line(path, key.models[i], limits::kModelNameBytes);
  }
  check_limits("limits", key.limits);
  const bool new_expiry = !before || before->expires_ms != key.expires_ms;
  if (key.expires_ms < 0 || (new_expiry && key.expires_ms != 0 && key.expires_ms <= call.now_ms))
    refuse_field("expires_ms", "0, or Unix time to come, in milliseconds", std::to_string(key.expires_ms));
}

// ---- what it may do, beside who makes it

// Its member: whom the body names by id or email; of who is no admin itself.
void choose_member(const Tables& tables, const ApiCall& call, Transaction& tx, KeyRow& key) {
  if (key.member.empty() && !is_admin(call)) key.member = call.caller.member;
  if (key.member.empty() && !is_admin(call))
    throw not_allowed("a key of no member makes keys of no member, which needs the role admin", "member");
  if (key.member.empty()) return;
  const auto member = find_member(tx, tables, key.workspace, key.member);
  if (!member) refuse_field("member", "the id or email of a member of this workspace", key.member);
  key.member = member->id;
  if (!is_admin(call) && key.member != call.caller.member)
    throw not_allowed("keys of other members need the role admin", "member");
}

void check_role(const Tables& tables, const ApiCall& call, Transaction& tx, const KeyRow& key) {
  if (key.platform && !call.caller.platform)
    throw not_allowed("platform is for who has it: this caller has not", "platform");
  if (key.api_role.empty()) return;
  const Role role = *enum_from_name<Role>(key.api_role);
  if (role > call.caller.role)
    throw not_allowed(fmt::format("api_role {} is more than {} has", key.api_role, call.caller.actor),
                      "api_role");
  const auto member = key.member.empty() ? std::nullopt : tables.members.find(tx, key.member);
  if (member && role > member->role) refuse_field("api_role", "at most the role of its member", key.api_role);
}

bool is_within(int64_t wanted, int64_t own) { return own == 0 || (wanted != 0 && wanted <= own); }

bool is_within(const std::vector<std::string>& wanted, const std::vector<std::string>& own) {
  const auto has = [&](const std::string& one) { return std::ranges::find(own, one) != own.end(); };
  return own.empty() || (!wanted.empty() && std::ranges::all_of(wanted, has));
}

// `own`: the key that the caller came with.
void check_bounds(const KeyRow& key, const KeyRow& own) {
  const struct {
    bool good;
    std::string path;
  } rows[] = {
      {!key.inference || own.inference, "inference"},
      {is_within(key.models, own.models), "models"},
      {is_within(key.expires_ms, own.expires_ms), "expires_ms"},
      {is_within(key.limits.addresses, own.limits.addresses), "limits.addresses"},
      {is_within(key.limits.requests_per_minute, own.limits.requests_per_minute),
       "limits.requests_per_minute"},
      {is_within(key.limits.tokens_per_minute, own.limits.tokens_per_minute), "limits.tokens_per_minute"},
      {is_within(key.limits.concurrency, own.limits.concurrency), "limits.concurrency"},
  };
  for (const auto& row : rows)
    if (!row.good) throw not_allowed(row.path + " goes beyond what the calling key has itself", row.path);
}

void check_key(const Tables& tables, ApiCall& call, Transaction& tx, KeyRow& key, const KeyRow* before) {
  check_values(call, key, before);
  if (!before) choose_member(tables, call, tx, key);
  check_role(tables, call, tx, key);
  if (!call.caller.key.empty()) check_bounds(key, tables.keys.get(tx, call.caller.key));
  if (before) return;
  NewKey made = make_key(KeyKind::api_key);
  key.prefix = made.prefix;
  key.digest = made.digest;
  call.prepared[kText] = made.text;
}

void revoke(const Tables& tables, Transaction& tx, KeyRow& key, int64_t now_ms) {
  if (key.revoked_ms != 0) return;
  key.revoked_ms = now_ms;
  tables.keys.update(tx, key);
}

}  // namespace

void revoke_keys_of(Transaction& transaction, const Tables& tables, const Member& member, int64_t now_ms) {
  for (std::string after;;) {
    auto page = tables.keys.list(transaction, {.filters = {{.field = "workspace", .value = member.workspace},
                                                           {.field = "member", .value = member.id}},
                                               .after = after});
    for (KeyRow& key : page.rows) revoke(tables, transaction, key, now_ms);
    if (page.next.empty()) return;
    after = page.next;
  }
}

std::vector<ApiRoute> key_api(const ApiServices& services) {
  const Tables& tables = services.tables;
  const Collection<KeyRow> keys{
      .path = "/api/v1/keys",
      .item_path = "/api/v1/keys/{id}",
      .noun = "key",
      .rows = tables.keys,
      .verbs = {.put = false},
      .check = [&tables](ApiCall& call, Transaction& tx, KeyRow& row,
                         const KeyRow* before) { check_key(tables, call, tx, row, before); },
      .narrow = [](ApiCall& call, Transaction&) { return only_own(call); },
      .sees = [](ApiCall& call, Transaction&, const KeyRow& row) { return is_own(call, row); },
      .created = [](ApiCall& call, const KeyRow&,
                    json::object& shown) { shown[kText] = call.prepared.at(kText); }};
  std::vector<ApiRoute> routes = collection_routes(keys);
  routes.push_back({.spec = {.method = net::Method::post,
                             .path = "/api/v1/keys/{id}/revoke",
                             .summary = "make a key good no more, at once and for streams that are open",
                             .answer_schema = struct_schema_text<KeyRow>()},
                    .needs = Needs::user,
                    .handle = [&tables, keys](ApiCall& call, Transaction& tx) {
                      KeyRow key = find_row(keys, call, tx);
                      check_conditions(call.http, key.etag);
                      revoke(tables, tx, key, call.now_ms);
                      return show_row(keys, call, tx, key);
                    }});
  return routes;
}

}  // namespace neutrino::cloud
