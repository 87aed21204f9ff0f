#include "store/backup.h"

#include <fcntl.h>

#include <algorithm>

#include "base/clock.h"
#include "base/file.h"
#include "base/random.h"
#include "store/change_log.h"
#include "store/schema.h"
#include "store/table_copy.h"

namespace neutrino::store {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kFormat = 1;
constexpr std::string_view kNotes = "schema_migrations";
constexpr std::string_view kWriters = "store_writers";  // of no use to another database

constexpr char kOwnTables[] = R"(
    CREATE TABLE backup_info (format BIGINT NOT NULL PRIMARY KEY, at_ms BIGINT NOT NULL, seq BIGINT NOT NULL);
    CREATE TABLE backup_tables (name TEXT NOT NULL PRIMARY KEY, rows BIGINT NOT NULL, sha256 TEXT NOT NULL))";

bool is_own(std::string_view table) { return table.starts_with("backup_"); }

const TableShape* find_table(const std::vector<TableShape>& tables, std::string_view name) {
  const auto found =
      std::find_if(tables.begin(), tables.end(), [&](const TableShape& table) { return table.name == name; });
  return found == tables.end() ? nullptr : &*found;
}

// ---- backup

// A file that is removed again unless it was kept.
class Partial {
 public:
  explicit Partial(const fs::path& final_path)
      : path_(fmt::format("{}.partial-{:016x}", final_path.string(), system_entropy())) {}
  Partial(const Partial&) = delete;
  ~Partial() {
    std::error_code ignored;
    for (const char* suffix : {"", "-wal", "-shm", "-journal"}) fs::remove(path_ + suffix, ignored);
  }
  const std::string& path() const { return path_; }

  // Gives the file its name when all of it is on the disk.
  void keep_as(const fs::path& path) const {
    const FileDescriptor file(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file || fsync(file.get()) != 0) throw system_error("sync", path_);
    if (rename(path_.c_str(), path.c_str()) != 0) throw system_error("name", path);
    sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
  }

 private:
  std::string path_;
};

void copy_table(Transaction& from, Transaction& to, const TableShape& table, BackupSummary& summary,
                const BackupProgress& progress) {
  to.define(definition_of(table));
  RowSum sum;
  for_each_page(from, table, [&](std::vector<Row>&& rows) {
    for (const Row& row : rows) sum.add(row);
    insert_rows(to, table, rows);
    if (progress) progress(table.name, sum.rows());
  });
  to.execute("INSERT INTO backup_tables (name, rows, sha256) VALUES (?, ?, ?)", table.name, sum.rows(),
             sum.finish());
  ++summary.tables;
  summary.rows += sum.rows();
}

BackupSummary copy_all(Transaction& from, const std::string& path, const BackupProgress& progress) {
  BackupSummary summary{.seq = last_change(from), .at_ms = SystemClock().unix_ms()};
  const auto file = connect_sqlite({.url = path, .durability = Durability::none});
  file->begin();
  Transaction to(*file);
  to.define(kOwnTables);
  to.execute("INSERT INTO backup_info (format, at_ms, seq) VALUES (?, ?, ?)", kFormat, summary.at_ms,
             summary.seq);
  for (const TableShape& table : from.tables())
    if (table.name != kWriters) copy_table(from, to, table, summary, progress);
  file->commit();
  file->define("PRAGMA journal_mode = DELETE");  // one file, without a log beside it
  return summary;
}

// ---- reading a backup

// A backup that is open for reading, its own tables apart.
class BackupFile {
 public:
  explicit BackupFile(const fs::path& path)
      : path_(path.string()), connection_(connect_sqlite({.url = path_, .access = Access::read_only})) {
    connection_->begin();
    transaction_.emplace(*connection_);
    tables_ = transaction_->tables();
    if (find_table(tables_, "backup_info") == nullptr || find_table(tables_, "backup_tables") == nullptr)
      throw make_error(ErrorCode::failed_precondition, "{} is not a backup", path_);
    const auto info = transaction_->query_row("SELECT format, at_ms, seq FROM backup_info");
    if (!info) damaged("it has no backup_info");
    if (const int64_t format = as_integer(info->at(0), "format"); format != kFormat)
      throw make_error(ErrorCode::failed_precondition,
                       "{} is a backup of format {}, this neutrino reads format {}", path_, format, kFormat);
    summary_ = {.bytes = static_cast<int64_t>(fs::file_size(path)),
                .seq = as_integer(info->at(2), "seq"),
                .at_ms = as_integer(info->at(1), "at_ms")};
    std::erase_if(tables_, [](const TableShape& table) { return is_own(table.name); });
  }
  Transaction& transaction() { return *transaction_; }
  const std::vector<TableShape>& tables() const { return tables_; }
  const BackupSummary& summary() const { return summary_; }

  // Compares all rows with the sums.
  void verify() {
    if (as_text(transaction_->query_row("PRAGMA integrity_check")->at(0), "integrity_check") != "ok")
      damaged("SQLite finds it inconsistent");
    const Rows sums = transaction_->query("SELECT name, rows, sha256 FROM backup_tables");
    if (sums.rows.size() != tables_.size()) damaged("a table is missing");
    for (const Row& row : sums.rows) {
      const TableShape* table = find_table(tables_, as_text(row[0], "backup_tables.name"));
      if (table == nullptr) damaged("a table is missing");
      RowSum sum;
      for_each_page(*transaction_, *table, [&](std::vector<Row>&& rows) {
        for (const Row& r : rows) sum.add(r);
      });
      if (sum.rows() != as_integer(row[1], "rows") || sum.finish() != as_text(row[2], "sha256"))
        damaged(fmt::format("the rows of {} are not those that were written", table->name));
      ++summary_.tables;
      summary_.rows += sum.rows();
    }
  }

 private:
  [[noreturn]] void damaged(std::string_view why) const {
    throw make_error(ErrorCode::data_loss, "the backup {} is damaged: {}", path_, why);
  }

  std::string path_;
  std::unique_ptr<Connection> connection_;
  std::optional<Transaction> transaction_;
  std::vector<TableShape> tables_;
  BackupSummary summary_;
};

// ---- restore

void refuse_if_not_empty(Transaction& target) {
  for (const TableShape& table : target.tables())
    if (table.name != kNotes && !table.name.starts_with("store_"))
      throw make_error(
          ErrorCode::failed_precondition,
          "the database is not empty (it has the table {}): restore into a new one, or replace it",
          table.name)
          .with_reason("not_empty");
}

void drop_everything(Transaction& target) {
  std::vector<TableShape> tables = target.tables();
  std::reverse(tables.begin(), tables.end());
  for (const TableShape& table : tables) target.define("DROP TABLE " + table.name);
}

// Applies the component's migrations after number `from` up to number `to`.
void apply_migrations(Transaction& target, const Component& component, int64_t from, int64_t to) {
  for (const Migration& migration : component.migrations)
    if (migration.number > from && migration.number <= to) apply_migration(target, component.name, migration);
}

// A backup of what this binary does not have at all is refused too.
void check_components(Transaction& backup, std::span<const Component> components) {
  for (const Component& component : components) check_schema(backup, component.name, component.migrations);
  for (const Row& row : backup.query("SELECT DISTINCT component FROM schema_migrations").rows) {
    const std::string& name = as_text(row[0], "schema_migrations.component");
    if (std::none_of(components.begin(), components.end(),
                     [&](const Component& c) { return c.name == name; }))
      throw make_error(ErrorCode::failed_precondition,
                       "the backup has tables of '{}', which this neutrino does not know", name);
  }
}

void fill(Transaction& target, BackupFile& backup, const BackupProgress& progress) {
  const std::vector<TableShape> made = target.tables();
  for (const TableShape& table : backup.tables()) {
    if (table.name == kNotes) continue;
    if (find_table(made, table.name) == nullptr)
      throw make_error(ErrorCode::data_loss, "the backup has a table {} that its migrations do not make",
                       table.name);
    target.execute("DELETE FROM " + table.name);  // rows that a migration made
    int64_t count = 0;
    for_each_page(backup.transaction(), table, [&](std::vector<Row>&& rows) {
      insert_rows(target, table, rows);
      count += std::ssize(rows);
      if (progress) progress(table.name, count);
    });
  }
}

}  // namespace

BackupSummary back_up(Database& database, const fs::path& path, const BackupProgress& progress) {
  if (fs::exists(path)) throw make_error(ErrorCode::already_exists, "{} exists already", path.string());
  return database.read([&](Transaction& from) {
    const Partial partial(path);
    BackupSummary summary = copy_all(from, partial.path(), progress);
    summary.bytes = static_cast<int64_t>(fs::file_size(partial.path()));
    partial.keep_as(path);
    return summary;
  });
}

BackupSummary check_backup(const fs::path& path) {
  BackupFile backup(path);
  backup.verify();
  return backup.summary();
}

BackupSummary restore(Database& database, const fs::path& path, std::span<const Component> components,
                      IfNotEmpty if_not_empty, const BackupProgress& progress) {
  std::vector<Component> all{{kStoreComponent, store_migrations()}};
  all.insert(all.end(), components.begin(), components.end());
  const BackupSummary summary = check_backup(path);
  database.write([&](Transaction& target) {
    BackupFile backup(path);
    check_components(backup.transaction(), all);
    if (if_not_empty == IfNotEmpty::refuse) refuse_if_not_empty(target);
    drop_everything(target);
    for (const Component& component : all)
      apply_migrations(target, component, 0, schema_version(backup.transaction(), component.name));
    fill(target, backup, progress);
    restart_change_log(target);
    for (const Component& component : all)
      apply_migrations(target, component, schema_version(backup.transaction(), component.name), INT64_MAX);
  });
  return summary;
}

}  // namespace neutrino::store
