// PostgreSQL behind Connection, through libpq.
//
// Writers exclude each other with an advisory lock for the length of a transaction, as they do in SQLite: what a writer reads is
// what it changes, and the change log's numbers come in the order of the commits. Every wait for the server has an end: a silent
// server counts as lost.
#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <charconv>

#include "base/limits.h"
#include "store/connection.h"
#include "store/sql_text.h"

namespace neutrino::store {
namespace {

// Numbers of types in PostgreSQL's catalogue (pg_type.dat), which never change.
enum Type : Oid { kBool = 16, kInt8 = 20, kInt2 = 21, kInt4 = 23, kText = 25, kFloat4 = 700, kFloat8 = 701 };

constexpr int32_t kWriterLock = 0x6e757472;

struct FreeConnection {
  void operator()(PGconn* connection) const { PQfinish(connection); }
};
struct FreeResult {
  void operator()(PGresult* result) const { PQclear(result); }
};
using Result = std::unique_ptr<PGresult, FreeResult>;

// Ends of a session by the server: SQLSTATEs of lost connections, shutdowns and recoveries, and
// of a transaction that the server gave up for another's sake. All are answered by beginning again on a new connection.
bool ends_session(std::string_view state) {
  return state.starts_with("08") || state.starts_with("57P") || state == "25P03" || state.starts_with("40");
}

ErrorCode code_of(std::string_view state) {
  if (state == "23505") return ErrorCode::already_exists;
  if (state.starts_with("23")) return ErrorCode::failed_precondition;
  if (state.starts_with("53")) return ErrorCode::resource_exhausted;
  if (state.starts_with("22") || state.starts_with("54")) return ErrorCode::invalid_argument;
  if (state == "57014" || state == "55P03") return ErrorCode::unavailable;
  if (state == "42501") return ErrorCode::permission_denied;
  if (state.starts_with("58") || state.starts_with("XX")) return ErrorCode::data_loss;
  return ErrorCode::internal;
}

std::string one_line(const char* text) {
  std::string line = text == nullptr ? "" : text;
  while (!line.empty() && line.back() == '\n') line.pop_back();
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line;
}

// Parameters as libpq takes them: texts with the types that they stand for.
struct Parameters {
  explicit Parameters(std::span<const Value> values) {
    texts.reserve(values.size());
    for (const Value& value : values) add(value);
    for (size_t i = 0; i < values.size(); ++i)
      pointers.push_back(std::holds_alternative<Null>(values[i]) ? nullptr : texts[i].c_str());
  }
  void add(const Value& value) {
    if (const auto* integer = std::get_if<int64_t>(&value)) return push(kInt8, fmt::to_string(*integer));
    if (const auto* number = std::get_if<double>(&value)) return push(kFloat8, fmt::to_string(*number));
    if (const auto* text = std::get_if<std::string>(&value)) return push(kText, *text);
    push(0, {});
  }
  void push(Oid type, std::string text) {
    types.push_back(type);
    texts.push_back(std::move(text));
  }
  std::vector<Oid> types;
  std::vector<std::string> texts;
  std::vector<const char*> pointers;
};

template <typename T>
T parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw make_error(ErrorCode::data_loss, "PostgreSQL sent '{}' as a number", text);
  return value;
}

Value value_at(const PGresult* result, int row, int column) {
  if (PQgetisnull(result, row, column) != 0) return Null{};
  const std::string_view text(PQgetvalue(result, row, column),
                              static_cast<size_t>(PQgetlength(result, row, column)));
  switch (PQftype(result, column)) {
    case kBool: return int64_t{text == "t"};
    case kInt2:
    case kInt4:
    case kInt8: return parse_number<int64_t>(text);
    case kFloat4:
    case kFloat8: return parse_number<double>(text);
    default: return std::string(text);
  }
}

class PostgresConnection final : public Connection {
 public:
  explicit PostgresConnection(const ConnectionOptions& options)
      : shown_(shown_url(options.url)), access_(options.access), timeout_(options.statement_timeout) {
    open(options);
    configure(options);
  }

  Rows run(const std::string& sql, std::span<const Value> parameters) override;
  void define(const std::string& sql) override { run_script(order_texts_by_bytes(sql)); }
  void begin() override;
  void commit() override;
  void roll_back() noexcept override;
  bool in_transaction() const override {
    return !lost_ && PQtransactionStatus(connection_.get()) != PQTRANS_IDLE;
  }
  bool commits_can_be_in_doubt() const override { return true; }
  std::vector<TableShape> tables() override;

 private:
  void open(const ConnectionOptions& options);
  void configure(const ConnectionOptions& options);
  void run_script(const std::string& sql);
  Result finish(int sent, std::string_view sql);
  void flush(std::chrono::steady_clock::time_point deadline);
  bool wait_for_result(std::chrono::steady_clock::time_point deadline);
  bool wait_for_socket(short events, std::chrono::steady_clock::time_point deadline);
  void throw_if_failed(const PGresult* result, std::string_view sql);
  [[noreturn]] void lose(std::string_view why);

  std::string shown_;  // the URL, for messages
  Access access_;
  std::chrono::milliseconds timeout_;
  std::unique_ptr<PGconn, FreeConnection> connection_;
  bool lost_ = false;
};

void PostgresConnection::lose(std::string_view why) {
  lost_ = true;
  throw ConnectionLost(fmt::format("database {}: {}", shown_, why));
}

// What the URL says itself comes first; these are for what it leaves open.
void PostgresConnection::open(const ConnectionOptions& options) {
  const std::string timeout = fmt::to_string(std::max<int64_t>(2, options.statement_timeout.count() / 1000));
  const char* const names[] = {"connect_timeout",
                               "application_name",
                               "keepalives_idle",
                               "keepalives_interval",
                               "keepalives_count",
                               "dbname",
                               nullptr};
  const char* const values[] = {timeout.c_str(), "neutrino", "10", "5", "3", options.url.c_str(), nullptr};
  connection_.reset(PQconnectdbParams(names, values, 1));
  if (PQstatus(connection_.get()) != CONNECTION_OK) lose(one_line(PQerrorMessage(connection_.get())));
  check(PQsetnonblocking(connection_.get(), 1) == 0, "libpq refuses non-blocking writes");
}

void PostgresConnection::configure(const ConnectionOptions& options) {
  PQsetNoticeProcessor(connection_.get(), [](void*, const char*) {}, nullptr);
  run_script(
      fmt::format("SET client_encoding = 'UTF8'; SET synchronous_commit = {}; SET lock_timeout = {}; "
                  "SET idle_in_transaction_session_timeout = {}; SET extra_float_digits = 1",
                  options.durability == Durability::full ? "on" : "off", options.busy_timeout.count(),
                  options.statement_timeout.count()));
}

void PostgresConnection::begin() {
  if (access_ == Access::read_only) return run_script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
  run_script(fmt::format("BEGIN; SELECT pg_advisory_xact_lock({}, hashtext(current_schema()))", kWriterLock));
}

void PostgresConnection::commit() {
  const Result result = finish(PQsendQuery(connection_.get(), "COMMIT"), "COMMIT");
  // A transaction with a failed statement is rolled back by COMMIT, without an error.
  if (std::string_view(PQcmdStatus(result.get())) != "COMMIT")
    throw make_error(ErrorCode::internal, "database {}: the transaction was rolled back", shown_);
}

void PostgresConnection::roll_back() noexcept {
  if (!in_transaction()) return;
  try {
    run_script("ROLLBACK");
  } catch (const Error&) {
    lost_ = true;
  }
}

// Waits until the socket is ready; false when the time is over.
bool PostgresConnection::wait_for_socket(short events, std::chrono::steady_clock::time_point deadline) {
  while (true) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return false;
    pollfd waiting{.fd = PQsocket(connection_.get()), .events = events, .revents = 0};
    const int ready = poll(&waiting, 1, static_cast<int>(left.count()));
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return false;
  }
}

void PostgresConnection::flush(std::chrono::steady_clock::time_point deadline) {
  while (true) {
    const int left = PQflush(connection_.get());
    if (left == 0) return;
    if (left < 0) lose(one_line(PQerrorMessage(connection_.get())));
    if (!wait_for_socket(POLLIN | POLLOUT, deadline)) lose("the server does not take what is sent to it");
    if (PQconsumeInput(connection_.get()) == 0) lose(one_line(PQerrorMessage(connection_.get())));
  }
}

bool PostgresConnection::wait_for_result(std::chrono::steady_clock::time_point deadline) {
  while (PQisBusy(connection_.get()) != 0) {
    if (!wait_for_socket(POLLIN, deadline)) return false;
    if (PQconsumeInput(connection_.get()) == 0) lose(one_line(PQerrorMessage(connection_.get())));
  }
  return true;
}

void PostgresConnection::throw_if_failed(const PGresult* result, std::string_view sql) {
  const ExecStatusType status = PQresultStatus(result);
  if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_EMPTY_QUERY) return;
  const char* field = PQresultErrorField(result, PG_DIAG_SQLSTATE);
  const std::string_view state = field == nullptr ? "" : field;
  const char* primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
  const std::string text = one_line(primary == nullptr ? PQresultErrorMessage(result) : primary);
  const bool is_standby = state == "25006" && access_ == Access::read_write;  // another server writes now
  if (state.empty() || ends_session(state) || is_standby || PQstatus(connection_.get()) == CONNECTION_BAD)
    lose(text);
  throw make_error(code_of(state), "database {}: {} ({})", shown_, text,
                   sql.substr(0, limits::kStoreShownSqlBytes));
}

// Reads the answers to what was sent up to the last one, and returns that. The first failure of several is thrown.
Result PostgresConnection::finish(int sent, std::string_view sql) {
  if (lost_) lose("the connection was lost before");
  if (sent == 0) lose(one_line(PQerrorMessage(connection_.get())));
  const auto deadline = std::chrono::steady_clock::now() + timeout_;
  flush(deadline);
  Result last, failed;
  while (true) {
    if (!wait_for_result(deadline)) lose(fmt::format("no answer within {} ms", timeout_.count()));
    Result next(PQgetResult(connection_.get()));
    if (!next) break;
    const bool bad =
        PQresultStatus(next.get()) == PGRES_FATAL_ERROR || PQresultStatus(next.get()) == PGRES_BAD_RESPONSE;
    if (bad && !failed)
      failed = std::move(next);
    else
      last = std::move(next);
  }
  if (failed) throw_if_failed(failed.get(), sql);
  if (!last) lose("the server gave no answer");
  throw_if_failed(last.get(), sql);
  return last;
}

void PostgresConnection::run_script(const std::string& sql) {
  finish(lost_ ? 0 : PQsendQuery(connection_.get(), sql.c_str()), sql);
}

Rows PostgresConnection::run(const std::string& sql, std::span<const Value> values) {
  if (lost_) lose("the connection was lost before");
  const Parameters parameters(values);
  const Result result = finish(
      PQsendQueryParams(connection_.get(), number_placeholders(sql).c_str(), static_cast<int>(values.size()),
                        parameters.types.data(), parameters.pointers.data(), nullptr, nullptr, 0),
      sql);
  const int count = PQntuples(result.get()), columns = PQnfields(result.get());
  if (count > limits::kStoreRows)
    throw make_error(ErrorCode::resource_exhausted, "a statement gave more than {} rows: read them by pages",
                     limits::kStoreRows);
  Rows rows;
  rows.rows.reserve(static_cast<size_t>(count));
  for (int i = 0; i < count; ++i) {
    Row& row = rows.rows.emplace_back();
    row.reserve(static_cast<size_t>(columns));
    for (int j = 0; j < columns; ++j) row.push_back(value_at(result.get(), i, j));
  }
  const std::string_view touched = PQcmdTuples(result.get());
  const bool is_select = std::string_view(PQcmdStatus(result.get())).starts_with("SELECT");
  rows.changed = touched.empty() || is_select ? 0 : parse_number<int64_t>(touched);
  return rows;
}

std::vector<TableShape> PostgresConnection::tables() {
  static const std::string kColumns = R"(
      SELECT c.relname::text, a.attname::text,
             CASE a.atttypid WHEN 20 THEN 'BIGINT' WHEN 701 THEN 'DOUBLE PRECISION' WHEN 25 THEN 'TEXT'
                             ELSE format_type(a.atttypid, a.atttypmod) END,
             coalesce(array_position(i.indkey::int2[], a.attnum) + 1, 0)::bigint
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
      LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
      WHERE n.nspname = current_schema() AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
      ORDER BY c.oid, a.attnum)";
  std::vector<TableShape> tables;
  for (const Row& row : run(kColumns, {}).rows) {
    const std::string& table = as_text(row[0], "a table's name");
    if (tables.empty() || tables.back().name != table) tables.push_back({.name = table});
    tables.back().columns.push_back({.name = as_text(row[1], "a column's name"),
                                     .type = as_text(row[2], "a column's type"),
                                     .key = as_integer(row[3], "a column's place in the key")});
  }
  return tables;
}

}  // namespace

std::unique_ptr<Connection> connect_postgres(const ConnectionOptions& options) {
  return std::make_unique<PostgresConnection>(options);
}

}  // namespace neutrino::store
