// What a column may hold, the same in SQLite and PostgreSQL: nothing, an integer, a number, a text. Truth is 0 or 1, bytes are
// text in hexadecimal or base64, structures are JSON text.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace neutrino::store {

using Null = std::monostate;
using Value = std::variant<Null, int64_t, double, std::string>;
using Row = std::vector<Value>;  // in the order of the statement's columns

struct Rows {
  std::vector<Row> rows;
  int64_t changed = 0;  // rows that an INSERT, UPDATE or DELETE touched
};

inline Value to_value(Value value) { return value; }
inline Value to_value(std::nullptr_t) { return Null{}; }
inline Value to_value(double value) { return value; }
inline Value to_value(std::string_view value) { return std::string(value); }
inline Value to_value(const std::string& value) { return value; }
inline Value to_value(const char* value) { return std::string(value); }
template <std::integral T>
Value to_value(T value) {
  return static_cast<int64_t>(value);
}
template <typename T>
Value to_value(const std::optional<T>& value) {
  return value ? to_value(*value) : Value(Null{});
}

// Texts go into both databases only as UTF-8 without NUL, which is what PostgreSQL holds.
bool is_storable_text(std::string_view text);

// A column's value as what it should be. Throws Error{data_loss} that names `what` if it is something else.
int64_t as_integer(const Value& value, std::string_view what);
double as_number(const Value& value, std::string_view what);  // an integer is one too
const std::string& as_text(const Value& value, std::string_view what);

}  // namespace neutrino::store
