// Members of a workspace through the API: who belongs to it, with which role.
//
// An admin manages them, but for the platform flag, which only who has it gives or takes. A workspace keeps an admin: the last one is
// neither demoted nor removed. With a member its API keys go.
#include <algorithm>

#include "cloud/api/caller.h"
#include "cloud/api/collection.h"
#include "cloud/api/field_checks.h"
#include "cloud/api/tenants.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;

constexpr size_t kEmailBytes = 254;

void check_platform_flag(const Caller& caller, bool before, bool after) {
  if (before == after || caller.platform) return;
  throw Error(ErrorCode::permission_denied, "only who has platform set may set or clear it")
      .with_reason("insufficient_role")
      .with_param("platform");
}

// `member` is about to be an admin no more.
void keep_an_admin(const Tables& tables, Transaction& tx, const Member& member) {
  const std::string admin(enum_name(Role::admin));
  const int64_t admins = tables.members.count(
      tx, {{.field = "workspace", .value = member.workspace}, {.field = "role", .value = admin}});
  if (member.role != Role::admin || admins > 1) return;
  throw make_error(ErrorCode::failed_precondition,
                   "{} is the last admin of this workspace: make another first", member.email)
      .with_reason("last_admin")
      .with_param("role");
}

void check_member(const Tables& tables, ApiCall& call, Transaction& tx, Member& member,
                  const Member* before) {
  member.email = check_email("email", member.email);
  check_platform_flag(call.caller, before && before->platform, member.platform);
  if (before && member.role != Role::admin) keep_an_admin(tables, tx, *before);
}

void before_removal(const Tables& tables, ApiCall& call, Transaction& tx, const Member& member) {
  check_platform_flag(call.caller, member.platform, false);
  keep_an_admin(tables, tx, member);
  revoke_keys_of(tx, tables, member, call.now_ms);
}

}  // namespace

std::string check_email(const std::string& path, const std::string& email) {
  const auto is_good = [](char c) {
    return c > ' ' && c < 127 && c != '"' && c != ',' && c != '<' && c != '>';
  };
  const size_t at = email.find('@');
  const bool fits = email.size() <= kEmailBytes && std::ranges::all_of(email, is_good) && at != email.npos &&
                    at > 0 && at + 1 < email.size() && email.find('@', at + 1) == email.npos;
  if (!fits) refuse_field(path, "an email address", email);
  return lower_email(email);
}

std::optional<Member> find_member(Transaction& transaction, const Tables& tables,
                                  const std::string& workspace, const std::string& who) {
  if (!store::is_storable_text(who)) return std::nullopt;
  auto member = tables.members.find(transaction, who);
  if (member && member->workspace == workspace) return member;
  auto rows = tables.members
                  .list(transaction, {.filters = {{.field = "workspace", .value = workspace},
                                                  {.field = "email", .value = lower_email(who)}}})
                  .rows;
  if (rows.empty()) return std::nullopt;
  return std::move(rows.front());
}

std::vector<ApiRoute> member_api(const ApiServices& services) {
  const Tables& tables = services.tables;
  return collection_routes(Collection<Member>{
      .path = "/api/v1/members",
      .item_path = "/api/v1/members/{id}",
      .noun = "member",
      .rows = tables.members,
      .write = Needs::admin,
      .name_field = "email",
      .check = [&tables](ApiCall& call, Transaction& tx, Member& row,
                         const Member* before) { check_member(tables, call, tx, row, before); },
      .before_erase = [&tables](ApiCall& call, Transaction& tx,
                                const Member& row) { before_removal(tables, call, tx, row); },
      .make_id = [](const Member&) { return new_id("mem"); }});
}

}  // namespace neutrino::cloud
