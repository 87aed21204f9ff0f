#include "store/table_sql.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/sha256.h"

namespace neutrino::store {
namespace {

[[noreturn]] void bad(const std::string& param, std::string message) {
  throw Error(ErrorCode::invalid_argument, param + " " + std::move(message)).with_param(param);
}

std::string placeholders(size_t count) {
  std::string list;
  for (size_t i = 0; i < count; ++i) list += i == 0 ? "?" : ", ?";
  return list;
}

bool fits(ColumnKind kind, const Value& value) {
  switch (kind) {
    case ColumnKind::integer: return std::holds_alternative<int64_t>(value);
    case ColumnKind::number:
      return std::holds_alternative<double>(value) || std::holds_alternative<int64_t>(value);
    case ColumnKind::text: return std::holds_alternative<std::string>(value);
    case ColumnKind::json: return false;
  }
  return false;
}

std::string_view kind_name(ColumnKind kind) {
  static constexpr std::string_view kNames[] = {"an integer", "a number", "a text", "nothing: it holds JSON"};
  return kNames[static_cast<size_t>(kind)];
}

std::string_view operator_of(Compare compare) {
  switch (compare) {
    case Compare::equal: return "=";
    case Compare::not_equal: return "<>";
    case Compare::less: return "<";
    case Compare::less_or_equal: return "<=";
    case Compare::greater: return ">";
    default: return ">=";
  }
}

json::value value_json(const Value& value) {
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer;
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* text = std::get_if<std::string>(&value)) return json::value(*text);
  return nullptr;
}

Value json_value(const json::value& value) {
  if (value.is_int64()) return value.get_int64();
  if (value.is_double()) return value.get_double();
  if (value.is_string()) return std::string(value.get_string());
  return Null{};
}

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(hex.data() + i, hex.data() + i + 2, value, 16);
    if (error != std::errc() || end != hex.data() + i + 2) return {};
    bytes += static_cast<char>(value);
  }
  return hex.size() % 2 == 0 ? bytes : std::string();
}

template <typename T>
Value number_from_text(const std::string& param, std::string_view text, ColumnKind kind) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    bad(param, fmt::format("must be {}, got '{}'", kind_name(kind), text.substr(0, 64)));
  return value;
}

}  // namespace

std::string join_key(std::span<const Value> key) {
  std::string joined;
  for (const Value& value : key) {
    if (!joined.empty()) joined += '/';
    if (const auto* text = std::get_if<std::string>(&value))
      joined += *text;
    else
      joined += to_text(value_json(value));
  }
  return joined;
}

TableSql::TableSql(std::string table, std::vector<TableColumn> columns)
    : table_(std::move(table)), columns_(std::move(columns)) {
  std::string sets, keys;
  for (const TableColumn& c : columns_) {
    names_ += (names_.empty() ? "" : ", ") + c.name;
    sets += (sets.empty() ? "" : ", ") + c.name + " = ?";
    if (c.key) keys += (keys.empty() ? "" : " AND ") + c.name + " = ?";
  }
  check(!keys.empty(), "a table needs a field that is marked as its key");
  insert_ = fmt::format("INSERT INTO {} ({}) VALUES ({})", table_, names_, placeholders(columns_.size()));
  update_ = fmt::format("UPDATE {} SET {} WHERE {}", table_, sets, keys);
  erase_ = fmt::format("DELETE FROM {} WHERE {}", table_, keys);
  find_ = fmt::format("SELECT {} FROM {} WHERE {}", names_, table_, keys);
}

size_t TableSql::index_of(std::string_view name) const {
  const auto is_named = [&](const TableColumn& c) { return c.name == name; };
  return static_cast<size_t>(std::find_if(columns_.begin(), columns_.end(), is_named) - columns_.begin());
}

const TableColumn& TableSql::column(std::string_view name, const std::string& param) const {
  const size_t index = index_of(name);
  if (index == columns_.size()) bad(param, fmt::format("must name a field, got '{}'", name.substr(0, 64)));
  if (columns_[index].kind == ColumnKind::json) bad(param, fmt::format("cannot use the field '{}'", name));
  return columns_[index];
}

Value TableSql::value_from_text(std::string_view field, std::string_view text) const {
  const std::string param(field);
  switch (column(field, param).kind) {
    case ColumnKind::integer:
      if (text == "true" || text == "false") return int64_t{text == "true"};
      return number_from_text<int64_t>(param, text, ColumnKind::integer);
    case ColumnKind::number: return number_from_text<double>(param, text, ColumnKind::number);
    default: return std::string(text);
  }
}

// ---- lists

// What rows are sorted by: the field that was asked for, then the key, so that no two rows are equal.
std::vector<const TableColumn*> TableSql::order_of(const ListQuery& query) const {
  std::vector<const TableColumn*> order;
  if (!query.order_by.empty()) {
    const TableColumn& first = column(query.order_by, "order_by");
    if (first.nullable) bad("order_by", fmt::format("cannot be '{}', which may be absent", first.name));
    order.push_back(&first);
  }
  for (const TableColumn& c : columns_)
    if (c.key && c.name != query.order_by) order.push_back(&c);
  return order;
}

std::string TableSql::condition(const Filter& filter, const std::string& param,
                                std::vector<Value>& values) const {
  const TableColumn& c = column(filter.field, param);
  const auto add = [&](const Value& value) {
    if (!fits(c.kind, value)) bad(param, fmt::format("must be compared with {}", kind_name(c.kind)));
    values.push_back(value);
  };
  switch (filter.compare) {
    case Compare::is_null: return c.name + " IS NULL";
    case Compare::is_not_null: return c.name + " IS NOT NULL";
    case Compare::any_of:
      if (filter.values.empty()) return "1 = 0";
      std::for_each(filter.values.begin(), filter.values.end(), add);
      return fmt::format("{} IN ({})", c.name, placeholders(filter.values.size()));
    case Compare::prefix:
      if (c.kind != ColumnKind::text) bad(param, "has no prefix: it is not a text");
      add(filter.value);
      add(filter.value);
      return fmt::format("substr({}, 1, length(?)) = ?", c.name);
    default: add(filter.value); return fmt::format("{} {} ?", c.name, operator_of(filter.compare));
  }
}

void TableSql::add_filters(const std::vector<Filter>& filters, ListSql& statement) const {
  statement.sql += " WHERE 1 = 1";
  for (size_t i = 0; i < filters.size(); ++i)
    statement.sql += " AND " + condition(filters[i], fmt::format("filters[{}]", i), statement.values);
}

ListSql TableSql::count(const std::vector<Filter>& filters) const {
  ListSql statement{.sql = "SELECT COUNT(*) FROM " + table_};
  add_filters(filters, statement);
  return statement;
}

ListSql TableSql::list(const ListQuery& query) const {
  if (query.limit < 1 || query.limit > limits::kStorePageRows)
    bad("limit", fmt::format("must be 1-{}, got {}", limits::kStorePageRows, query.limit));
  ListSql statement{.sql = fmt::format("SELECT {} FROM {}", names_, table_)};
  add_filters(query.filters, statement);
  if (!query.after.empty()) add_cursor(query, statement);
  const std::string_view direction = query.direction == Direction::ascending ? "" : " DESC";
  std::string order;
  for (const TableColumn* c : order_of(query))
    order += fmt::format("{}{}{}", order.empty() ? "" : ", ", c->name, direction);
  statement.sql += fmt::format(" ORDER BY {} LIMIT ?", order);
  statement.values.emplace_back(query.limit + 1);
  return statement;
}

// A cursor is the hexadecimal form of a JSON array: the order, its direction, and the last row's values in that order.
std::string TableSql::cursor(const ListQuery& query, const Row& last) const {
  json::array place{json::value(query.order_by), query.direction == Direction::descending};
  for (const TableColumn* c : order_of(query)) place.push_back(value_json(last.at(index_of(c->name))));
  const std::string text = to_text(place);
  return to_hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

void TableSql::add_cursor(const ListQuery& query, ListSql& statement) const {
  const std::vector<const TableColumn*> order = order_of(query);
  json::value place;
  try {
    if (std::ssize(query.after) <= limits::kStoreCursorBytes) place = parse_json(from_hex(query.after));
  } catch (const Error&) {
    place = nullptr;
  }
  const json::value expected_order(query.order_by),
      expected_direction(query.direction == Direction::descending);
  if (!place.is_array() || place.get_array().size() != order.size() + 2 ||
      place.get_array()[0] != expected_order || place.get_array()[1] != expected_direction)
    bad("after", "must be the `next` of a page of the same list");
  std::string names;
  for (size_t i = 0; i < order.size(); ++i) {
    statement.values.push_back(json_value(place.get_array()[i + 2]));
    if (!fits(order[i]->kind, statement.values.back()))
      bad("after", "must be the `next` of a page of the same list");
    names += (i == 0 ? "" : ", ") + order[i]->name;
  }
  const std::string_view beyond = query.direction == Direction::ascending ? ">" : "<";
  statement.sql += fmt::format(" AND ({}) {} ({})", names, beyond, placeholders(order.size()));
}

}  // namespace neutrino::store
