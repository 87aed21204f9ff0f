#include "store/migrations.h"

#include <algorithm>

#include "base/log.h"
#include "base/sha256.h"
#include "store/database.h"

namespace neutrino::store {
namespace {

constexpr std::string_view kNotes = "schema_migrations";

void make_notes(Transaction& transaction) {
  if (has_table(transaction, kNotes)) return;
  transaction.define(R"(
      CREATE TABLE schema_migrations (
        component TEXT NOT NULL,
        number BIGINT NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (component, number)
      ))");
}

std::string text_hash(const Migration& migration) { return to_hex(sha256(migration.sql)); }

void check_order(std::string_view component, std::span<const Migration> migrations) {
  for (size_t i = 0; i < migrations.size(); ++i)
    if (migrations[i].number != static_cast<int64_t>(i) + 1)
      throw make_error(ErrorCode::internal, "{} migration {} should have number {}, has {}", component,
                       migrations[i].name, i + 1, migrations[i].number);
}

// One that is there already may have been applied by another process since this one looked.
bool apply_if_missing(Transaction& transaction, std::string_view component, const Migration& migration,
                      const MigrationProgress& progress) {
  if (schema_version(transaction, component) >= migration.number) return false;
  if (progress) progress(migration, MigrationStep::begins);
  apply_migration(transaction, component, migration);
  if (progress) progress(migration, MigrationStep::is_applied);
  return true;
}

}  // namespace

bool has_table(Transaction& transaction, std::string_view name) {
  const std::vector<TableShape> tables = transaction.tables();
  return std::any_of(tables.begin(), tables.end(),
                     [&](const TableShape& table) { return table.name == name; });
}

int64_t schema_version(Transaction& transaction, std::string_view component) {
  if (!has_table(transaction, kNotes)) return 0;
  const auto row = transaction.query_row(
      "SELECT COALESCE(MAX(number), 0) FROM schema_migrations WHERE component = ?", component);
  return as_integer(row->at(0), "schema_migrations.number");
}

void check_schema(Transaction& transaction, std::string_view component,
                  std::span<const Migration> migrations) {
  check_order(component, migrations);
  if (!has_table(transaction, kNotes)) return;
  const Rows applied = transaction.query(
      "SELECT number, name, sha256 FROM schema_migrations WHERE component = ? ORDER BY number", component);
  for (const Row& row : applied.rows) {
    const int64_t number = as_integer(row[0], "schema_migrations.number");
    const std::string& name = as_text(row[1], "schema_migrations.name");
    if (number > std::ssize(migrations))
      throw make_error(
          ErrorCode::failed_precondition,
          "the database has {} migration {} ('{}'), this neutrino knows them up to {}: use a newer neutrino",
          component, number, name, migrations.size());
    const Migration& known = migrations[static_cast<size_t>(number - 1)];
    if (name != known.name || as_text(row[2], "schema_migrations.sha256") != text_hash(known))
      throw make_error(ErrorCode::failed_precondition,
                       "{} migration {} of the database is '{}', this neutrino has another text of it, '{}': "
                       "one of them is not a released version",
                       component, number, name, known.name);
  }
}

void apply_migration(Transaction& transaction, std::string_view component, const Migration& migration) {
  make_notes(transaction);
  transaction.define(std::string(migration.sql));
  transaction.execute("INSERT INTO schema_migrations (component, number, name, sha256) VALUES (?, ?, ?, ?)",
                      component, migration.number, migration.name, text_hash(migration));
}

void migrate(Database& database, std::string_view component, std::span<const Migration> migrations,
             const MigrationProgress& progress) {
  const int64_t version = database.read([&](Transaction& transaction) {
    check_schema(transaction, component, migrations);
    return schema_version(transaction, component);
  });
  for (const Migration& migration : migrations.subspan(static_cast<size_t>(version))) {
    const bool applied = database.write([&](Transaction& transaction) {
      return apply_if_missing(transaction, component, migration, progress);
    });
    if (!applied) continue;
    if (progress) progress(migration, MigrationStep::is_committed);
    spdlog::debug("migration applied component={} number={} name=\"{}\"", component, migration.number,
                  migration.name);
  }
}

}  // namespace neutrino::store
