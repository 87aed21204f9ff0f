// SQLite behind Connection: a file in WAL mode, each commit forced to the disk (synchronous=FULL).
#include <fcntl.h>
#include <sqlite3.h>

#include <filesystem>
#include <thread>
#include <unordered_map>

#include "base/file.h"
#include "base/limits.h"
#include "store/connection.h"

namespace neutrino::store {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kApplicationId = 0x6e757472;  // "nutr" in the file's header: this file is ours

struct CloseDatabase {
  void operator()(sqlite3* database) const { sqlite3_close_v2(database); }
};
struct FinalizeStatement {
  void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
};
using StatementPointer = std::unique_ptr<sqlite3_stmt, FinalizeStatement>;

ErrorCode code_of(int result) {
  if (result == SQLITE_CONSTRAINT_PRIMARYKEY || result == SQLITE_CONSTRAINT_UNIQUE ||
      result == SQLITE_CONSTRAINT_ROWID)
    return ErrorCode::already_exists;
  switch (result & 0xff) {
    case SQLITE_CONSTRAINT: return ErrorCode::failed_precondition;
    case SQLITE_FULL: return ErrorCode::resource_exhausted;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_IOERR: return ErrorCode::unavailable;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return ErrorCode::data_loss;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH: return ErrorCode::permission_denied;
    case SQLITE_CANTOPEN: return ErrorCode::not_found;
    case SQLITE_TOOBIG: return ErrorCode::invalid_argument;
    default: return ErrorCode::internal;
  }
}

Value column_value(sqlite3_stmt* statement, int column) {
  switch (sqlite3_column_type(statement, column)) {
    case SQLITE_INTEGER: return int64_t{sqlite3_column_int64(statement, column)};
    case SQLITE_FLOAT: return sqlite3_column_double(statement, column);
    case SQLITE_NULL: return Null{};
    default: {
      const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement, column));
      return std::string(text, static_cast<size_t>(sqlite3_column_bytes(statement, column)));
    }
  }
}

// A statement that is ready again for its next use, whatever happens in this one.
class BoundStatement {
 public:
  explicit BoundStatement(sqlite3_stmt* statement) : statement_(statement) {}
  BoundStatement(const BoundStatement&) = delete;
  ~BoundStatement() {
    sqlite3_reset(statement_);
    sqlite3_clear_bindings(statement_);
  }
  // The values outlive the use, so SQLite need not copy them. Returns a result code.
  int bind(std::span<const Value> values) {
    int result = SQLITE_OK;
    for (size_t i = 0; i < values.size() && result == SQLITE_OK; ++i) {
      const int at = static_cast<int>(i) + 1;
      if (const auto* integer = std::get_if<int64_t>(&values[i]))
        result = sqlite3_bind_int64(statement_, at, *integer);
      if (const auto* number = std::get_if<double>(&values[i]))
        result = sqlite3_bind_double(statement_, at, *number);
      if (const auto* text = std::get_if<std::string>(&values[i]))
        result = sqlite3_bind_text64(statement_, at, text->data(), text->size(), SQLITE_STATIC, SQLITE_UTF8);
    }
    return result;
  }
  int step() { return sqlite3_step(statement_); }
  Row row() const {
    Row row;
    const int columns = sqlite3_column_count(statement_);
    row.reserve(static_cast<size_t>(columns));
    for (int i = 0; i < columns; ++i) row.push_back(column_value(statement_, i));
    return row;
  }

 private:
  sqlite3_stmt* statement_;
};

// A new file belongs to its owner alone, as there are secrets in it; SQLite gives its log the same mode.
void make_file(const fs::path& path) {
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
  const FileDescriptor made(open(path.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600));
  if (made) return sync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
  if (errno != EEXIST) throw system_error("create", path);
}

class SqliteConnection final : public Connection {
 public:
  explicit SqliteConnection(const ConnectionOptions& options) : path_(options.url), access_(options.access) {
    if (access_ == Access::read_write) make_file(path_);
    open_file(options);
    check_application();
    configure(options);
  }

  Rows run(const std::string& sql, std::span<const Value> parameters) override;
  void define(const std::string& sql) override { run_script(sql); }
  void begin() override { run(access_ == Access::read_write ? "BEGIN IMMEDIATE" : "BEGIN", {}); }
  void commit() override;
  void roll_back() noexcept override { sqlite3_exec(database_.get(), "ROLLBACK", nullptr, nullptr, nullptr); }
  bool in_transaction() const override { return sqlite3_get_autocommit(database_.get()) == 0; }
  bool commits_can_be_in_doubt() const override { return false; }
  std::vector<TableShape> tables() override;

 private:
  void open_file(const ConnectionOptions& options);
  void check_application();
  void use_log(std::chrono::milliseconds patience);
  void configure(const ConnectionOptions& options);
  sqlite3_stmt* prepare(const std::string& sql);
  void run_script(const std::string& sql);
  int64_t integer_of(const std::string& sql) { return as_integer(run(sql, {}).rows.at(0).at(0), path_); }
  Error error(int result, std::string_view sql) const;

  std::string path_;
  Access access_;
  std::unique_ptr<sqlite3, CloseDatabase> database_;
  std::unordered_map<std::string, StatementPointer> statements_;  // prepared before, by their text
};

Error SqliteConnection::error(int result, std::string_view sql) const {
  const char* text = database_ ? sqlite3_errmsg(database_.get()) : sqlite3_errstr(result);
  return make_error(code_of(result), "database {}: {} ({})", path_, text,
                    sql.substr(0, limits::kStoreShownSqlBytes));
}

void SqliteConnection::open_file(const ConnectionOptions& options) {
  sqlite3* database = nullptr;
  const int result =
      sqlite3_open_v2(path_.c_str(), &database, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
  database_.reset(database);
  if (result != SQLITE_OK) throw error(result, "open");
  sqlite3_extended_result_codes(database, 1);
  sqlite3_busy_timeout(database, static_cast<int>(options.busy_timeout.count()));
  sqlite3_db_config(database, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
}

// Somebody else's database is refused before anything is written into it. Another process of ours may be making this one.
void SqliteConnection::check_application() {
  if (integer_of("PRAGMA application_id") == kApplicationId) return;
  begin();
  const int64_t application = integer_of("PRAGMA application_id");
  const bool is_new = application == 0 && integer_of("SELECT COUNT(*) FROM sqlite_master") == 0;
  if (is_new && access_ == Access::read_write)
    run_script(fmt::format("PRAGMA application_id = {}", kApplicationId));
  run_script("COMMIT");
  if (!is_new && application != kApplicationId)
    throw make_error(ErrorCode::failed_precondition, "{} is an SQLite database of another program", path_);
}

// SQLite does not wait for the lock that this needs, which several processes want when they make a file together.
void SqliteConnection::use_log(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (true) {
    try {
      return run_script("PRAGMA journal_mode = WAL");
    } catch (const Error& error) {
      if (error.code() != ErrorCode::unavailable || std::chrono::steady_clock::now() >= deadline) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void SqliteConnection::configure(const ConnectionOptions& options) {
  if (access_ == Access::read_write) use_log(options.busy_timeout);
  run_script(R"(PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
                PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY;)");
  run_script(fmt::format("PRAGMA journal_size_limit = {}", limits::kStoreLogBytes));
  run_script(options.durability == Durability::full ? "PRAGMA synchronous = FULL"
                                                    : "PRAGMA synchronous = OFF");
  if (access_ == Access::read_only) run_script("PRAGMA query_only = ON");
}

sqlite3_stmt* SqliteConnection::prepare(const std::string& sql) {
  const auto known = statements_.find(sql);
  if (known != statements_.end()) return known->second.get();
  sqlite3_stmt* statement = nullptr;
  const char* rest = nullptr;
  const int result = sqlite3_prepare_v3(database_.get(), sql.data(), static_cast<int>(sql.size()),
                                        SQLITE_PREPARE_PERSISTENT, &statement, &rest);
  StatementPointer owner(statement);
  if (result != SQLITE_OK) throw error(result, sql);
  check(statement != nullptr && rest == sql.data() + sql.size(), "exactly one statement at a time");
  if (std::ssize(statements_) >= limits::kStoreStatements) statements_.clear();
  return statements_.emplace(sql, std::move(owner)).first->second.get();
}

// When forcing the log to the disk fails, nobody can say what of it the disk has.
void SqliteConnection::commit() {
  try {
    run("COMMIT", {});
  } catch (Error& error) {
    if (error.code() == ErrorCode::unavailable) error.with_reason("fate_unknown");
    throw;
  }
}

Rows SqliteConnection::run(const std::string& sql, std::span<const Value> parameters) {
  sqlite3_stmt* const prepared = prepare(sql);
  check(sqlite3_bind_parameter_count(prepared) == std::ssize(parameters),
        "a value for each ? of a statement");
  BoundStatement statement(prepared);
  int result = statement.bind(parameters);
  if (result != SQLITE_OK) throw error(result, sql);
  Rows rows;
  const int64_t before = sqlite3_total_changes64(database_.get());
  while ((result = statement.step()) == SQLITE_ROW) {
    if (std::ssize(rows.rows) >= limits::kStoreRows)
      throw make_error(ErrorCode::resource_exhausted,
                       "a statement gave more than {} rows: read them by pages", limits::kStoreRows);
    rows.rows.push_back(statement.row());
  }
  if (result != SQLITE_DONE) throw error(result, sql);
  rows.changed = sqlite3_total_changes64(database_.get()) - before;
  return rows;
}

void SqliteConnection::run_script(const std::string& sql) {
  const int result = sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr);
  if (result != SQLITE_OK) throw error(result, sql);
}

std::vector<TableShape> SqliteConnection::tables() {
  std::vector<TableShape> tables;
  const Rows names = run(
      "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY rowid", {});
  for (const Row& row : names.rows) {
    TableShape& table = tables.emplace_back(TableShape{.name = as_text(row[0], "a table's name")});
    const std::vector<Value> name{table.name};
    for (const Row& column : run("SELECT name, type, pk FROM pragma_table_info(?) ORDER BY cid", name).rows)
      table.columns.push_back({.name = as_text(column[0], "a column's name"),
                               .type = as_text(column[1], "a column's type"),
                               .key = as_integer(column[2], "a column's place in the key")});
  }
  return tables;
}

}  // namespace

std::unique_ptr<Connection> connect_sqlite(const ConnectionOptions& options) {
  return std::make_unique<SqliteConnection>(options);
}

}  // namespace neutrino::store
