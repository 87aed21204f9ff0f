#include "cloud/bootstrap.h"

#include <string>

#include "base/file.h"
#include "cloud/limits.h"
#include "cloud/sessions.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr const char* kHow = "one_time_key";

void make_shapes(store::Transaction& tx, const Tables& tables) {
  NodeGroup local{.name = "local"};
  tables.node_groups.insert(tx, local);
  Shape shapes[] = {{.name = "small", .memory_bytes = 1 * kGiB, .cores = 1},
                    {.name = "medium", .memory_bytes = 4 * kGiB, .cores = 2},
                    {.name = "large", .memory_bytes = 16 * kGiB, .cores = 8}};
  for (Shape& shape : shapes) tables.shapes.insert(tx, shape);
}

// The admin as it has to be, in this workspace.
void make_admin(store::Transaction& tx, const Tables& tables, const std::string& workspace, int64_t now_ms) {
  const std::string email(kFirstAdmin);
  std::vector<Member> found =
      tables.members
          .list(tx,
                {.filters = {{.field = "workspace", .value = workspace}, {.field = "email", .value = email}}})
          .rows;
  Member member{.id = new_id("mem"), .workspace = workspace, .email = email, .created_ms = now_ms};
  if (!found.empty()) member = found.front();
  member.role = Role::admin;
  member.platform = true;
  if (found.empty())
    tables.members.insert(tx, member);
  else
    tables.members.update(tx, member);
}

void make_key_file(store::Transaction& tx, const Tables& tables, int64_t now_ms,
                   const std::filesystem::path& key_file) {
  tx.execute("DELETE FROM one_time_keys WHERE email = ? AND how = ?", std::string(kFirstAdmin),
             std::string(kHow));
  const int64_t expires_ms = now_ms + limits::kOneTimeKeySeconds * 1000;
  const std::string text = make_one_time_key(tx, tables, std::string(kFirstAdmin), kHow, expires_ms);
  write_file_atomic(key_file, text + "\n", 0600);
}

bool is_empty(store::Transaction& tx, const Tables& tables) {
  return tables.workspaces.list(tx, {.limit = 1}).rows.empty();
}

bool fill(store::Transaction& tx, const Tables& tables, int64_t now_ms,
          const std::filesystem::path& key_file) {
  if (!is_empty(tx, tables)) return false;
  Workspace workspace{.id = new_id("ws"), .name = std::string(kFirstWorkspace), .created_ms = now_ms};
  tables.workspaces.insert(tx, workspace);
  make_admin(tx, tables, workspace.id, now_ms);
  make_shapes(tx, tables);
  make_key_file(tx, tables, now_ms, key_file);
  return true;
}

}  // namespace

bool bootstrap(store::Database& database, const Tables& tables, int64_t now_ms,
               const std::filesystem::path& key_file) {
  if (!database.read([&](store::Transaction& tx) { return is_empty(tx, tables); })) return false;
  return database.write([&](store::Transaction& tx) { return fill(tx, tables, now_ms, key_file); });
}

void bootstrap_again(store::Database& database, const Tables& tables, int64_t now_ms,
                     const std::filesystem::path& key_file) {
  database.write([&](store::Transaction& tx) {
    if (fill(tx, tables, now_ms, key_file)) return;
    const auto oldest = tables.workspaces.list(tx, {.order_by = "created_ms", .limit = 1}).rows;
    make_admin(tx, tables, oldest.front().id, now_ms);
    make_key_file(tx, tables, now_ms, key_file);
  });
}

}  // namespace neutrino::cloud
