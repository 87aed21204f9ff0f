// Statements that store/table.h has none of: rows that are added to where they are, many rows at once. From the fields of a struct.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/fields.h"
#include "store/table.h"

namespace neutrino::cloud {

// All columns' values, in the order of the fields.
template <HasFields T>
void append_values(const T& row, std::vector<store::Value>& values) {
  for_each_field(row, [&](const auto&, const auto& value) { values.push_back(store::column_value(value)); });
}

// "INSERT INTO table (a, b) VALUES (?, ?), (?, ?)" for so many rows.
template <HasFields T>
std::string insert_sql(std::string_view table, int64_t rows = 1) {
  std::string names, places;
  for_each_field<T>([&](const auto& f) {
    names.append(names.empty() ? "" : ", ").append(f.name);
    places.append(places.empty() ? "?" : ", ?");
  });
  std::string sql = fmt::format("INSERT INTO {} ({}) VALUES ({})", table, names, places);
  for (int64_t i = 1; i < rows; ++i) sql.append(", (").append(places).append(")");
  return sql;
}

// Makes the row, or adds the columns of `added` to the one that has its key and replaces the others.
template <HasFields T>
std::string add_sql(std::string_view table, std::span<const std::string_view> added) {
  std::string keys, sets;
  for_each_field<T>([&](const auto& f) {
    if (f.options.key) {
      keys.append(keys.empty() ? "" : ", ").append(f.name);
      return;
    }
    const bool adds = std::find(added.begin(), added.end(), f.name) != added.end();
    sets.append(sets.empty() ? "" : ", ");
    sets += adds ? fmt::format("{0} = {1}.{0} + excluded.{0}", f.name, table)
                 : fmt::format("{0} = excluded.{0}", f.name);
  });
  return fmt::format("{} ON CONFLICT ({}) DO UPDATE SET {}", insert_sql<T>(table), keys, sets);
}

template <HasFields T>
void add_to_row(store::Transaction& tx, const std::string& sql, const T& row) {
  std::vector<store::Value> values;
  append_values(row, values);
  tx.run(sql, values);
}

}  // namespace neutrino::cloud
