// Workspaces through the API. The platform makes and removes them; everybody sees those that they are a member of.
#include <algorithm>

#include "cloud/api/caller.h"
#include "cloud/api/collection.h"
#include "cloud/api/field_checks.h"
#include "cloud/api/tenants.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

// The platform sees all, a person its own, a key the one that it is of.
bool is_seen(const Tables& tables, const ApiCall& call, Transaction& tx, const Workspace& workspace) {
  if (call.caller.platform || workspace.id == call.caller.workspace) return true;
  const std::vector<Member> members = members_of(tx, tables, call.caller.email);
  return std::ranges::any_of(members, [&](const Member& m) { return m.workspace == workspace.id; });
}

std::vector<store::Filter> only_seen(const Tables& tables, const ApiCall& call, Transaction& tx) {
  if (call.caller.platform) return {};
  store::Filter own{.field = "id", .compare = store::Compare::any_of, .values = {call.caller.workspace}};
  for (const Member& member : members_of(tx, tables, call.caller.email))
    own.values.emplace_back(member.workspace);
  return {own};
}

// Who is to be the first admin of a new workspace: whom the body names, else whoever makes it.
std::string first_admin(const ApiCall& call, Transaction& tx, const Tables& tables) {
  if (const json::value* named = call.body.get_object().if_contains("admin")) {
    if (!named->is_string()) refuse_field("admin", "an email address", to_text(*named));
    return check_email("admin", std::string(named->get_string()));
  }
  if (!call.caller.email.empty()) return call.caller.email;
  if (const auto member = tables.members.find(tx, call.caller.member)) return member->email;
  throw Error(ErrorCode::invalid_argument,
              "admin must be the email address of the first admin: this key is of no member")
      .with_param("admin");
}

void check_workspace(ApiCall&, Transaction&, Workspace& workspace, const Workspace*) {
  check_slug("name", workspace.name, limits::kNameBytes);
}

void add_first_admin(const Tables& tables, ApiCall& call, Transaction& tx, const Workspace& workspace) {
  if (tables.members.count(tx, {{.field = "workspace", .value = workspace.id}}) > 0) return;  // not a new one
  Member admin{.id = new_id("mem"),
               .workspace = workspace.id,
               .email = first_admin(call, tx, tables),
               .role = Role::admin,
               .created_ms = call.now_ms};
  tables.members.insert(tx, admin);
}

// ---- removal

template <typename T>
void erase_all_of(Transaction& tx, const store::Table<T>& table, const std::string& workspace) {
  for (;;) {
    const auto rows = table.list(tx, {.filters = {{.field = "workspace", .value = workspace}}}).rows;
    for (const T& row : rows) table.erase(tx, row);
    if (rows.empty()) return;
  }
}

// What it used stays in the books.
void empty_workspace(const Tables& tables, Transaction& tx, const Workspace& workspace) {
  const std::vector<store::Filter> own{{.field = "workspace", .value = workspace.id}};
  const auto refuse = [&](std::string_view why) {
    return make_error(ErrorCode::failed_precondition, "the workspace '{}' {}", workspace.name, why)
        .with_reason("in_use");
  };
  if (tables.endpoints.count(tx, own) > 0) throw refuse("has endpoints: delete them first");
  if (tables.deployments.count(tx, own) > 0) throw refuse("has replicas that are being stopped: try again");
  if (tables.workspaces.count(tx) == 1) throw refuse("is the only one");
  erase_all_of(tx, tables.members, workspace.id);
  erase_all_of(tx, tables.keys, workspace.id);
  erase_all_of(tx, tables.secrets, workspace.id);
  erase_all_of(tx, tables.budgets, workspace.id);
}

}  // namespace

std::vector<ApiRoute> workspace_api(const ApiServices& services) {
  const Tables& tables = services.tables;
  const Collection<Workspace> workspaces{
      .path = "/api/v1/workspaces",
      .item_path = "/api/v1/workspaces/{id}",
      .noun = "workspace",
      .rows = tables.workspaces,
      .write = Needs::platform,
      .computed = {{"admin",
                    {{"type", "string"},
                     {"writeOnly", true},
                     {"description", "email address of a new one's first admin; absent: who makes it"}}}},
      .check = check_workspace,
      .written = [&tables](ApiCall& call, Transaction& tx,
                           const Workspace& row) { add_first_admin(tables, call, tx, row); },
      .before_erase = [&tables](ApiCall&, Transaction& tx,
                                const Workspace& row) { empty_workspace(tables, tx, row); },
      .make_id = [](const Workspace&) { return new_id("ws"); },
      .narrow = [&tables](ApiCall& call, Transaction& tx) { return only_seen(tables, call, tx); },
      .sees = [&tables](ApiCall& call, Transaction& tx,
                        const Workspace& row) { return is_seen(tables, call, tx, row); }};
  return collection_routes(workspaces);
}

std::vector<ApiRoute> tenant_api(const ApiServices& services) {
  std::vector<ApiRoute> all;
  for (const auto subject : {workspace_api, member_api, key_api, secret_api})
    for (ApiRoute& route : subject(services)) all.push_back(std::move(route));
  return all;
}

}  // namespace neutrino::cloud
