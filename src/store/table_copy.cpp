#include "store/table_copy.h"

#include <algorithm>
#include <bit>

#include "base/limits.h"

namespace neutrino::store {
namespace {

constexpr size_t kValuesPerInsert = 1000;

// Names come from a database that may be damaged or made up, and they become part of statements.
void check_name(const std::string& name) {
  const auto is_plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; };
  if (name.empty() || name.size() > 63 || !std::all_of(name.begin(), name.end(), is_plain))
    throw make_error(ErrorCode::failed_precondition, "'{}' is not the name of a table or column of ours",
                     name);
}

void check_shape(const TableShape& table) {
  check_name(table.name);
  for (const Column& column : table.columns) {
    check_name(column.name);
    if (column.type != "BIGINT" && column.type != "DOUBLE PRECISION" && column.type != "TEXT")
      throw make_error(ErrorCode::failed_precondition,
                       "{}.{} has the type {}, expected BIGINT, DOUBLE PRECISION or TEXT", table.name,
                       column.name, column.type);
  }
}

std::string names_of(const std::vector<Column>& columns) {
  std::string names;
  for (const Column& column : columns) names += (names.empty() ? "" : ", ") + column.name;
  return names;
}

std::string placeholders(size_t count) {
  std::string list = "?";
  for (size_t i = 1; i < count; ++i) list += ", ?";
  return list;
}

std::vector<Column> key_of(const TableShape& table) {
  std::vector<Column> key;
  std::copy_if(table.columns.begin(), table.columns.end(), std::back_inserter(key),
               [](const Column& column) { return column.key > 0; });
  std::sort(key.begin(), key.end(), [](const Column& a, const Column& b) { return a.key < b.key; });
  if (key.empty())
    throw make_error(ErrorCode::failed_precondition, "the table {} has no primary key", table.name);
  return key;
}

}  // namespace

void for_each_page(Transaction& from, const TableShape& table,
                   const std::function<void(std::vector<Row>&& rows)>& take) {
  check_shape(table);
  const std::vector<Column> key = key_of(table);
  const std::string names = names_of(key);
  const std::string select = fmt::format("SELECT {} FROM {}", names_of(table.columns), table.name);
  const std::string order = fmt::format(" ORDER BY {} LIMIT {}", names, limits::kStorePageRows);
  const std::string next =
      fmt::format("{} WHERE ({}) > ({}){}", select, names, placeholders(key.size()), order);
  Rows page = from.query(select + order);
  while (!page.rows.empty()) {
    std::vector<Value> last;
    for (const Column& column : key) {
      const auto is_it = [&](const Column& other) { return other.name == column.name; };
      const auto at = std::find_if(table.columns.begin(), table.columns.end(), is_it) - table.columns.begin();
      last.push_back(page.rows.back().at(static_cast<size_t>(at)));
    }
    take(std::move(page.rows));
    page = from.run(next, last);
  }
}

std::string definition_of(const TableShape& table) {
  check_shape(table);
  std::string columns;
  for (const Column& column : table.columns) columns += fmt::format("{} {}, ", column.name, column.type);
  return fmt::format("CREATE TABLE {} ({}PRIMARY KEY ({}))", table.name, columns, names_of(key_of(table)));
}

void insert_rows(Transaction& to, const TableShape& table, const std::vector<Row>& rows) {
  const size_t width = table.columns.size(), at_once = std::max<size_t>(1, kValuesPerInsert / width);
  const std::string insert = fmt::format("INSERT INTO {} ({}) VALUES ", table.name, names_of(table.columns));
  const std::string one = "(" + placeholders(width) + ")";
  for (size_t begin = 0; begin < rows.size(); begin += at_once) {
    const size_t end = std::min(rows.size(), begin + at_once);
    std::string sql = insert + one;
    std::vector<Value> values;
    for (size_t i = begin; i < end; ++i) {
      if (i > begin) sql += ", " + one;
      values.insert(values.end(), rows[i].begin(), rows[i].end());
    }
    to.run(sql, values);
  }
}

// Each value as its kind, its size and its bytes, so that no two rows have the same ones.
void RowSum::add(const Row& row) {
  ++rows_;
  for (const Value& value : row) {
    std::string bytes(1, static_cast<char>('0' + value.index()));
    if (const auto* integer = std::get_if<int64_t>(&value)) bytes += fmt::to_string(*integer);
    if (const auto* number = std::get_if<double>(&value))
      bytes += fmt::to_string(std::bit_cast<uint64_t>(*number));
    if (const auto* text = std::get_if<std::string>(&value))
      bytes += fmt::format("{}:{}", text->size(), *text);
    sum_.update(bytes + ";");
  }
  sum_.update("\n");
}

}  // namespace neutrino::store
