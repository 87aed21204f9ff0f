// Reading JSON of a tokenizer's files: fields by name and type, with errors that say where.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace neutrino::tokenizer {

// `check_name` becomes Error::reason(): a stable word, so that tests can count which check refused what.
template <typename... Args>
Error bad_json(std::string_view check_name, fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...)
      .with_reason(std::string(check_name));
}

// Null counts as absent everywhere: nullptr.
inline const json::value* find_field(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

inline const json::object& as_object(const json::value& value, std::string_view what) {
  if (!value.is_object()) throw bad_json("json_type", "{} must be an object", what);
  return value.get_object();
}

inline const json::array& as_array(const json::value& value, std::string_view what) {
  if (!value.is_array()) throw bad_json("json_type", "{} must be an array", what);
  return value.get_array();
}

inline std::string_view as_text(const json::value& value, std::string_view what) {
  if (!value.is_string()) throw bad_json("json_type", "{} must be a string", what);
  return value.get_string();
}

inline std::string_view text_field(const json::object& object, std::string_view name) {
  const json::value* value = find_field(object, name);
  if (!value) throw bad_json("json_field", "\"{}\" must be there, in {:.100}", name, to_text(object));
  return as_text(*value, name);
}

inline std::optional<std::string> optional_text(const json::object& object, std::string_view name) {
  const json::value* value = find_field(object, name);
  return value ? std::optional<std::string>(as_text(*value, name)) : std::nullopt;
}

inline std::optional<bool> optional_bool(const json::object& object, std::string_view name) {
  const json::value* value = find_field(object, name);
  if (!value) return std::nullopt;
  if (!value->is_bool()) throw bad_json("json_type", "\"{}\" must be true or false", name);
  return value->get_bool();
}

inline bool bool_field(const json::object& object, std::string_view name, bool otherwise) {
  return optional_bool(object, name).value_or(otherwise);
}

// A number from 0 to most.
inline int64_t as_count(const json::value& value, int64_t most, std::string_view what) {
  json::error_code ec;
  const auto number = value.is_number() ? value.to_number<int64_t>(ec) : -1;
  if (ec || number < 0 || number > most)
    throw bad_json("json_number", "{} must be 0-{}, got {:.100}", what, most, to_text(value));
  return number;
}

}  // namespace neutrino::tokenizer
