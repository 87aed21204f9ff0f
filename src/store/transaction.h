// What a piece of work does to the database: statements that take effect together or not at all.
//
// After a statement has failed the transaction takes no more statements (PostgreSQL's rule, kept for SQLite too, so that both
// behave alike): let the Error end the work, or put what may fail into attempt().
#pragma once

#include <array>
#include <functional>
#include <optional>

#include "store/connection.h"

namespace neutrino::store {

class Transaction {
 public:
  explicit Transaction(Connection& connection) : connection_(connection) {}
  Transaction(const Transaction&) = delete;

  // Errors: see Connection::run(); invalid_argument for a text or number that cannot be stored.
  template <typename... Args>
  Rows query(const std::string& sql, const Args&... arguments) {
    const std::array<Value, sizeof...(Args)> values{to_value(arguments)...};
    return run(sql, values);
  }
  Rows run(const std::string& sql, std::span<const Value> values);

  template <typename... Args>
  int64_t execute(const std::string& sql, const Args&... arguments) {  // returns how many rows changed
    return query(sql, arguments...).changed;
  }
  template <typename... Args>
  std::optional<Row> query_row(const std::string& sql, const Args&... arguments) {  // the first, if any
    Rows found = query(sql, arguments...);
    if (found.rows.empty()) return std::nullopt;
    return std::move(found.rows.front());
  }

  // Runs `work` so that its Error undoes what it did and leaves this transaction usable; then throws it on.
  void attempt(const std::function<void()>& work);

  void define(const std::string& sql);  // tables; only migrations do
  std::vector<TableShape> tables() { return connection_.tables(); }

  // The change log's part: that this transaction appended to it, and whether it did.
  void note_change() { changed_log_ = true; }
  bool changed_log() const { return changed_log_; }

 private:
  void refuse_if_failed() const;
  template <typename Work>
  auto guarded(Work work);

  Connection& connection_;
  int64_t depth_ = 0;  // of savepoints
  bool failed_ = false, changed_log_ = false;
};

}  // namespace neutrino::store
