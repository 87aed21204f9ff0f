// Structs as rows: insert, get, update, erase and list, from the fields that the struct describes (base/fields.h).
//
//   const Table<Endpoint> endpoints({.name = "endpoints", .kind = "endpoint"});
//   endpoints.insert(tx, endpoint);                                  // sets endpoint.etag
//   Endpoint endpoint = endpoints.get(tx, workspace, id);            // by the fields marked as key, in their order
//   endpoints.update(tx, endpoint);                                  // refused if it was changed since it was read
//   Page<Endpoint> page = endpoints.list(tx, {.filters = {{.field = "workspace", .value = "w1"}}, .after = cursor});
//
// A table with a `kind` writes every change of a row to the change log, under the row's field `workspace` if it has one. A row with a
// field `etag` (int64_t) has optimistic concurrency: update() and erase() are refused unless the etag is the stored one.
#pragma once

#include <charconv>
#include <string>
#include <vector>

#include "base/fields.h"
#include "store/change_log.h"
#include "store/table_sql.h"

namespace neutrino::store {

template <typename T>
struct Page {
  std::vector<T> rows;
  std::string next;  // ListQuery::after of the next page; empty: this is the last
};

// ---- one field as one column

template <typename T>
constexpr ColumnKind column_kind() {
  if constexpr (detail::is_optional<T>)
    return column_kind<typename T::value_type>();
  else if constexpr (std::is_same_v<T, int64_t> || std::is_same_v<T, bool>)
    return ColumnKind::integer;
  else if constexpr (std::is_same_v<T, double>)
    return ColumnKind::number;
  else if constexpr (std::is_same_v<T, std::string> || NamedEnum<T>)
    return ColumnKind::text;
  else
    return ColumnKind::json;
}

template <typename T>
Value column_value(const T& field) {
  if constexpr (detail::is_optional<T>)
    return field ? column_value(*field) : Value(Null{});
  else if constexpr (NamedEnum<T>)
    return to_value(enum_name(field));
  else if constexpr (column_kind<T>() == ColumnKind::json)
    return to_text(value_to_json(field, Show::all_fields));
  else
    return to_value(field);
}

template <typename T>
void read_column(T& field, const Value& value, std::string_view name) {
  if constexpr (detail::is_optional<T>) {
    if (std::holds_alternative<Null>(value)) return field.reset();
    read_column(field.emplace(), value, name);
  } else if constexpr (NamedEnum<T>) {
    const auto named = enum_from_name<T>(as_text(value, name));
    if (!named)
      throw make_error(ErrorCode::data_loss, "{} holds an unknown name, '{}'", name, as_text(value, name));
    field = *named;
  } else if constexpr (column_kind<T>() == ColumnKind::json) {
    value_from_json(field, parse_json(as_text(value, name)), Accept::from_storage, std::string(name));
  } else if constexpr (std::is_same_v<T, double>) {
    field = as_number(value, name);
  } else if constexpr (std::is_same_v<T, std::string>) {
    field = as_text(value, name);
  } else {
    field = static_cast<T>(as_integer(value, name));
  }
}

// ---- a struct as a row

struct TableOptions {
  std::string_view name;       // of the table
  std::string_view kind = {};  // of its rows in the change log and in messages; empty: not logged
};

template <HasFields T>
class Table {
 public:
  explicit Table(const TableOptions& options)
      : sql_(std::string(options.name), columns()), kind_(options.kind) {}

  // Throws Error{already_exists} if the key, or another value that must be the only one, is there; no statement follows then.
  void insert(Transaction& transaction, T& row) const {
    note_change(transaction, row, "insert");
    try {
      transaction.run(sql_.insert(), values(row));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::already_exists) throw;
      throw make_error(ErrorCode::already_exists, "{} '{}' exists already", noun(), id_of(row));
    }
  }

  template <typename... Key>
  std::optional<T> find(Transaction& transaction, const Key&... key) const {
    const std::array<Value, sizeof...(Key)> keys{to_value(key)...};
    return find_row(transaction, keys);
  }

  template <typename... Key>
  T get(Transaction& transaction, const Key&... key) const {  // throws Error{not_found}
    const std::array<Value, sizeof...(Key)> keys{to_value(key)...};
    return get_row(transaction, keys);
  }

  // Writes all fields. Throws Error{not_found}, or Error{failed_precondition, reason "etag_mismatch"} if row.etag is not the stored
  // one; the transaction can go on. Sets row.etag to the new one.
  void update(Transaction& transaction, T& row) const {
    check_etag(get_row(transaction, keys(row)), etag_of(row));
    note_change(transaction, row, "update");
    std::vector<Value> parameters = values(row);
    for (Value& key : keys(row)) parameters.push_back(std::move(key));
    transaction.run(sql_.update(), parameters);
  }

  // As update(), of a row that was read before.
  void erase(Transaction& transaction, const T& row) const {
    T stored = get_row(transaction, keys(row));
    check_etag(stored, etag_of(row));
    note_change(transaction, stored, "erase");
    transaction.run(sql_.erase(), keys(row));
  }

  // Throws Error{invalid_argument, param: the query's part} for a field that is not a column, or is one of JSON, a value of another
  // type, a limit outside 1 to limits::kStorePageRows, a cursor of another query.
  Page<T> list(Transaction& transaction, const ListQuery& query) const {
    const ListSql statement = sql_.list(query);
    Rows found = transaction.run(statement.sql, statement.values);
    Page<T> page;
    const bool more = std::ssize(found.rows) > query.limit;
    if (more) found.rows.pop_back();
    if (more) page.next = sql_.cursor(query, found.rows.back());
    page.rows.reserve(found.rows.size());
    for (const Row& row : found.rows) page.rows.push_back(read_row(row));
    return page;
  }

  int64_t count(Transaction& transaction, const std::vector<Filter>& filters = {}) const {
    const ListSql statement = sql_.count(filters);
    return as_integer(transaction.run(statement.sql, statement.values).rows.at(0).at(0), "a count");
  }

  // A filter's value from the text of a URL, by the field's type; throws Error{invalid_argument, param: the field}.
  Value value_from_text(std::string_view field, std::string_view text) const {
    return sql_.value_from_text(field, text);
  }

  // Throws if the table lacks a column: for a test that compares migrations with structs.
  void check_columns(Transaction& transaction) const { list(transaction, {.limit = 1}); }

 private:
  static std::vector<TableColumn> columns() {
    std::vector<TableColumn> all;
    for_each_field<T>([&](const auto& f) {
      using Type = typename std::remove_cvref_t<decltype(f)>::Type;
      if (!f.options.not_stored)
        all.push_back({.name = std::string(f.name),
                       .kind = column_kind<Type>(),
                       .nullable = detail::is_optional<Type>,
                       .key = f.options.key});
    });
    return all;
  }

  static std::vector<Value> values(const T& row) {
    std::vector<Value> all;
    for_each_field(row, [&](const auto& f, const auto& value) {
      if (!f.options.not_stored) all.push_back(column_value(value));
    });
    return all;
  }

  static std::vector<Value> keys(const T& row) {
    std::vector<Value> all;
    for_each_field(row, [&](const auto& f, const auto& value) {
      if (f.options.key) all.push_back(column_value(value));
    });
    return all;
  }

  T read_row(const Row& from) const {
    T row;
    size_t column = 0;
    for_each_field(row, [&](const auto& f, auto& value) {
      if (!f.options.not_stored) read_column(value, from.at(column++), f.name);
    });
    return row;
  }

  std::optional<T> find_row(Transaction& transaction, std::span<const Value> key) const {
    const Rows found = transaction.run(sql_.find(), key);
    if (found.rows.empty()) return std::nullopt;
    return read_row(found.rows.front());
  }

  T get_row(Transaction& transaction, std::span<const Value> key) const {
    std::optional<T> found = find_row(transaction, key);
    if (!found) throw make_error(ErrorCode::not_found, "there is no {} '{}'", noun(), join_key(key));
    return *std::move(found);
  }

  std::string_view noun() const { return kind_.empty() ? sql_.table() : kind_; }

  // The change's id: the key without the workspace, which has a column of its own.
  static std::string id_of(const T& row) {
    std::vector<Value> key;
    for_each_field(row, [&](const auto& f, const auto& value) {
      if (f.options.key && f.name != "workspace") key.push_back(column_value(value));
    });
    return join_key(key);
  }

  static std::optional<int64_t> etag_of(const T& row) {
    std::optional<int64_t> etag;
    for_each_field(row, [&](const auto& f, const auto& value) {
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, int64_t>)
        if (f.name == "etag") etag = value;
    });
    return etag;
  }

  void check_etag(const T& stored, std::optional<int64_t> expected) const {
    const std::optional<int64_t> etag = etag_of(stored);
    if (etag == expected) return;
    throw make_error(ErrorCode::failed_precondition, "{} '{}' was changed meanwhile: its etag is {}, not {}",
                     noun(), id_of(stored), *etag, *expected)
        .with_reason("etag_mismatch");
  }

  // Logs the change, if this table is logged, and gives the row its next etag.
  void note_change(Transaction& transaction, T& row, std::string_view operation) const {
    int64_t etag = etag_of(row).value_or(0) + 1;
    if (!kind_.empty()) {
      Change change{.kind = kind_, .id = id_of(row), .operation = std::string(operation)};
      for_each_field(row, [&](const auto& f, const auto& value) {
        if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, std::string>)
          if (f.name == "workspace") change.workspace = value;
      });
      etag = append_change(transaction, change);
    }
    for_each_field(row, [&](const auto& f, auto& value) {
      if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, int64_t>)
        if (f.name == "etag") value = etag;
    });
  }

  TableSql sql_;
  std::string kind_;
};

}  // namespace neutrino::store
