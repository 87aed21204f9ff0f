// A struct's fields, described once; rows, JSON, flags and help follow from the description.
//
//   struct Endpoint {
//     std::string id;
//     std::string name;
//     int64_t replicas_min = 0;
//     std::optional<std::string> alias;
//     static constexpr auto fields() {
//       return std::tuple(field("id", &Endpoint::id, {.key = true, .read_only = true}),
//                         field("name", &Endpoint::name, {.immutable = true}),
//                         field("replicas_min", &Endpoint::replicas_min, {.help = "kept when idle"}),
//                         field("alias", &Endpoint::alias));
//     }
//   };
//
// A field is an int64_t, double, bool, std::string, an enum with names (below), an optional of these, a vector of strings, a
// json::value, a struct with fields of its own or a vector of such structs. In JSON these nest; in a row the last four are one
// column of JSON text, and an enum is its name.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <vector>

#include "base/error.h"
#include "base/json.h"

namespace neutrino {

struct FieldOptions {
  bool key = false;         // part of the row's primary key
  bool secret = false;      // stored, but never shown in JSON
  bool read_only = false;   // set by us: a request that brings it is refused
  bool immutable = false;   // may be set at creation only; whoever updates compares
  bool not_stored = false;  // computed when it is read: in JSON, but not a column
  std::string_view help = {};
};

template <typename Owner, typename T>
struct Field {
  using Type = T;
  std::string_view name;  // in JSON and the column's name
  T Owner::*member;
  FieldOptions options;
};

template <typename Owner, typename T>
constexpr Field<Owner, T> field(std::string_view name, T Owner::*member, FieldOptions options = {}) {
  return {name, member, options};
}

template <typename T>
concept HasFields = requires { T::fields(); };

// visit(const Field&) for each field of T, in order.
template <HasFields T, typename Visit>
constexpr void for_each_field(Visit visit) {
  std::apply([&](const auto&... fields) { (visit(fields), ...); }, T::fields());
}

// visit(const Field&, value) for each field of an object, in order.
template <typename T, typename Visit>
  requires HasFields<std::remove_const_t<T>>
constexpr void for_each_field(T& object, Visit visit) {
  for_each_field<std::remove_const_t<T>>([&](const auto& f) { visit(f, object.*f.member); });
}

// An enum whose values 0, 1, … have names: constexpr std::array<std::string_view, N> enum_names(Enum) beside it.
template <typename T>
concept NamedEnum = std::is_enum_v<T> && requires { enum_names(T{}); };

template <NamedEnum T>
constexpr std::string_view enum_name(T value) {
  return enum_names(T{}).at(static_cast<size_t>(value));
}

template <NamedEnum T>
std::optional<T> enum_from_name(std::string_view name) {
  const auto names = enum_names(T{});
  for (size_t i = 0; i < names.size(); ++i)
    if (names[i] == name) return static_cast<T>(i);
  return std::nullopt;
}

// ---- JSON

enum class Show { public_fields, all_fields };    // all: with secrets, for rows and backups
enum class Accept { from_client, from_storage };  // from a client: neither read-only nor unknown fields

namespace detail {

template <typename T>
inline constexpr bool is_optional = false;
template <typename T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <typename T>
inline constexpr bool is_vector = false;
template <typename T>
inline constexpr bool is_vector<std::vector<T>> = true;

[[noreturn]] inline void wrong_type(const std::string& path, std::string_view expected,
                                    const json::value& got) {
  std::string text = to_text(got);
  if (text.size() > 64) text = text.substr(0, 64) + "…";
  throw make_error(ErrorCode::invalid_argument, "{} must be {}, got {}", path, expected, text)
      .with_param(path);
}

template <NamedEnum T>
std::string list_of_names() {
  std::string list;
  for (const std::string_view name : enum_names(T{}))
    list += (list.empty() ? "\"" : ", \"") + std::string(name) + '"';
  return list;
}

inline std::string join_path(const std::string& path, std::string_view name) {
  return path.empty() ? std::string(name) : path + "." + std::string(name);
}

}  // namespace detail

template <HasFields T>
json::object to_json(const T& object, Show show = Show::public_fields);

// Reads the fields that `from` has into `object` and leaves the others as they are. Throws Error{invalid_argument} with the
// field's path ("deployments[2].shape") as param for a wrong type, a field that `accept` does not allow and null where the
// field is not optional. `path` is the place of `from` in the whole.
template <HasFields T>
void read_json(T& object, const json::value& from, Accept accept, const std::string& path = {});

// One field's value to JSON and back; used by the two above and for columns that hold JSON.
template <typename T>
json::value value_to_json(const T& value, Show show = Show::public_fields) {
  if constexpr (HasFields<T>) {
    return to_json(value, show);
  } else if constexpr (detail::is_optional<T>) {
    return value ? value_to_json(*value, show) : json::value(nullptr);
  } else if constexpr (detail::is_vector<T>) {
    json::array array;
    for (const auto& item : value) array.push_back(value_to_json(item, show));
    return array;
  } else if constexpr (NamedEnum<T>) {
    return json::value(enum_name(value));
  } else {
    return json::value(value);
  }
}

template <typename T>
void value_from_json(T& value, const json::value& from, Accept accept, const std::string& path) {
  if constexpr (std::is_same_v<T, json::value>) {
    value = from;
  } else if constexpr (HasFields<T>) {
    read_json(value, from, accept, path);
  } else if constexpr (detail::is_optional<T>) {
    if (from.is_null()) return value.reset();
    value_from_json(value.emplace(), from, accept, path);
  } else if constexpr (detail::is_vector<T>) {
    if (!from.is_array()) detail::wrong_type(path, "an array", from);
    value.clear();
    for (const json::value& item : from.get_array()) {
      const std::string where = fmt::format("{}[{}]", path, value.size());
      value_from_json(value.emplace_back(), item, accept, where);
    }
  } else if constexpr (std::is_same_v<T, bool>) {
    if (!from.is_bool()) detail::wrong_type(path, "true or false", from);
    value = from.get_bool();
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (!from.is_int64()) detail::wrong_type(path, "an integer", from);
    value = from.get_int64();
  } else if constexpr (std::is_same_v<T, double>) {
    if (!from.is_number()) detail::wrong_type(path, "a number", from);
    value = from.to_number<double>();
  } else if constexpr (NamedEnum<T>) {
    const auto named = from.is_string() ? enum_from_name<T>(from.get_string()) : std::nullopt;
    if (!named) detail::wrong_type(path, fmt::format("one of {}", detail::list_of_names<T>()), from);
    value = *named;
  } else {
    static_assert(std::is_same_v<T, std::string>, "a field of a type that base/fields.h does not know");
    if (!from.is_string()) detail::wrong_type(path, "a string", from);
    value.assign(from.get_string());
  }
}

template <HasFields T>
json::object to_json(const T& object, Show show) {
  json::object result;
  for_each_field(object, [&](const auto& f, const auto& value) {
    if (f.options.secret && show == Show::public_fields) return;
    result.emplace(f.name, value_to_json(value, show));
  });
  return result;
}

template <HasFields T>
void read_json(T& object, const json::value& from, Accept accept, const std::string& path) {
  if (!from.is_object()) detail::wrong_type(path.empty() ? "the body" : path, "an object", from);
  const json::object& members = from.get_object();
  for (const auto& member : members) {
    const std::string where = detail::join_path(path, member.key());
    bool known = false;
    for_each_field(object, [&](const auto& f, auto& value) {
      if (f.name != std::string_view(member.key())) return;
      known = true;
      if (accept == Accept::from_client && f.options.read_only)
        throw make_error(ErrorCode::invalid_argument, "{} is read-only", where).with_param(where);
      value_from_json(value, member.value(), accept, where);
    });
    if (!known && accept == Accept::from_client)
      throw make_error(ErrorCode::invalid_argument, "{} is not a known field", where).with_param(where);
  }
}

}  // namespace neutrino
