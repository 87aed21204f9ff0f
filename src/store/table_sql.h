// The statements of a table, put together once from its columns; and lists: filters, order, pages.
//
// A page ends with a cursor, which holds the order's value and the key of its last row; the next page begins behind that place
// (keyset pagination), so rows that come and go meanwhile neither repeat nor hide others. Names of columns come from the struct only,
// values are always parameters.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "store/value.h"

namespace neutrino::store {

enum class ColumnKind { integer, number, text, json };

struct TableColumn {
  std::string name;
  ColumnKind kind;
  bool nullable = false;
  bool key = false;
};

enum class Compare {
  equal,
  not_equal,
  less,
  less_or_equal,
  greater,
  greater_or_equal,
  prefix,
  any_of,
  is_null,
  is_not_null
};

struct Filter {
  std::string field;
  Compare compare = Compare::equal;
  Value value = {};
  std::vector<Value> values = {};  // of any_of
};

enum class Direction { ascending, descending };

struct ListQuery {
  std::vector<Filter> filters = {};  // all must hold
  std::string order_by = {};  // a field; empty: the key. Rows with the same value are in the key's order
  Direction direction = Direction::ascending;
  int64_t limit = 100;
  std::string after = {};  // Page::next of the page before
};

struct ListSql {
  std::string sql;
  std::vector<Value> values;
};

std::string join_key(std::span<const Value> key);  // "a/b", for messages and the change log

class TableSql {
 public:
  TableSql(std::string table, std::vector<TableColumn> columns);

  const std::string& table() const { return table_; }
  const std::string& insert() const { return insert_; }  // parameters: all columns
  const std::string& update() const { return update_; }  // all columns, then the key
  const std::string& erase() const { return erase_; }    // the key
  const std::string& find() const { return find_; }      // the key

  // Errors: see Table::list(). The list's statement asks for one row more than the limit, which tells whether there is another page.
  ListSql list(const ListQuery& query) const;
  ListSql count(const std::vector<Filter>& filters) const;
  std::string cursor(const ListQuery& query, const Row& last) const;
  Value value_from_text(std::string_view field, std::string_view text) const;

 private:
  const TableColumn& column(std::string_view name, const std::string& param) const;
  size_t index_of(std::string_view name) const;
  std::vector<const TableColumn*> order_of(const ListQuery& query) const;
  void add_filters(const std::vector<Filter>& filters, ListSql& statement) const;
  std::string condition(const Filter& filter, const std::string& param, std::vector<Value>& values) const;
  void add_cursor(const ListQuery& query, ListSql& statement) const;

  std::string table_;
  std::vector<TableColumn> columns_;
  std::string names_;  // of all columns
  std::string insert_, update_, erase_, find_;
};

}  // namespace neutrino::store
