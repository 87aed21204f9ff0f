// Objects of the API as JSON: what a client may bring, merge patches, etags.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/fields.h"
#include "net/request.h"

namespace neutrino::cloud {

// RFC 7396: members of `patch` replace those of `target`, null takes one away, objects are merged.
void merge_patch(json::value& target, const json::value& patch);

// The field of that name and type; null if there is none.
template <typename Value, typename T>
auto* field_named(T& row, std::string_view name) {
  using Result = std::conditional_t<std::is_const_v<T>, const Value, Value>;
  Result* found = nullptr;
  for_each_field(row, [&](const auto& f, auto& value) {
    if constexpr (std::is_same_v<std::remove_cvref_t<decltype(value)>, Value>)
      if (f.name == name) found = &value;
  });
  return found;
}

template <HasFields T>
constexpr bool has_field(std::string_view name) {
  bool found = false;
  for_each_field<T>([&](const auto& f) { found = found || f.name == name; });
  return found;
}

template <HasFields T>
std::string_view key_field() {
  std::string_view key;
  for_each_field<T>([&](const auto& f) {
    if (f.options.key && key.empty()) key = f.name;
  });
  return key;
}

// ---- what a client may write

template <typename T>
json::value writable_value(const T& value);

// As to_json(), without what is read-only, at any depth.
template <HasFields T>
json::object writable_json(const T& object) {
  json::object result;
  for_each_field(object, [&](const auto& f, const auto& value) {
    if (!f.options.secret && !f.options.read_only) result.emplace(f.name, writable_value(value));
  });
  return result;
}

template <typename T>
json::value writable_value(const T& value) {
  if constexpr (HasFields<T>) {
    return writable_json(value);
  } else if constexpr (neutrino::detail::is_vector<T>) {
    json::array array;
    for (const auto& item : value) array.push_back(writable_value(item));
    return array;
  } else {
    return value_to_json(value);
  }
}

// A new object with what a body cannot change: it is what a body is read into.
template <HasFields T>
T fixed_part(const T& before) {
  T fresh;
  for_each_field<T>([&](const auto& f) {
    if (f.options.read_only || f.options.secret || f.options.immutable) fresh.*f.member = before.*f.member;
  });
  return fresh;
}

template <typename T>
void drop_known(json::value& from, const T& known) {
  if constexpr (HasFields<T>) {
    if (!from.is_object()) return;
    json::object& members = from.get_object();
    for_each_field(known, [&](const auto& f, const auto& value) {
      json::value* brought = members.if_contains(f.name);
      if (brought && f.options.read_only && *brought == value_to_json(value))
        members.erase(f.name);
      else if (brought)
        drop_known(*brought, value);
    });
  } else if constexpr (neutrino::detail::is_vector<T>) {
    if (!from.is_array()) return;
    for (size_t i = 0; i < std::min(known.size(), from.get_array().size()); ++i)
      drop_known(from.get_array()[i], known[i]);
  }
}

// Takes read-only members out of a body where they say what is so anyway, so that an object may be sent back as it was shown.
// An etag is a condition. Throws Error{failed_precondition, reason "etag_mismatch"}.
void check_body_etag(const json::value& body, int64_t etag);
template <HasFields T>
void drop_what_is_so(json::value& body, const T& before) {
  if (const int64_t* etag = field_named<int64_t>(before, "etag")) check_body_etag(body, *etag);
  drop_known(body, before);
}

// Throws Error{invalid_argument, param: the field} if one that cannot change did.
template <HasFields T>
void check_immutable(const T& row, const T& before) {
  for_each_field<T>([&](const auto& f) {
    if (!f.options.immutable) return;
    const json::value was = value_to_json(before.*f.member), is = value_to_json(row.*f.member);
    if (was != is)
      throw make_error(ErrorCode::invalid_argument, "{} cannot be changed: it is {}, got {}", f.name,
                       to_text(was), to_text(is))
          .with_param(std::string(f.name));
  });
}

// ---- conditions of a request on the state of what it changes

// If-Match and If-None-Match. `etag`: absent if the object is not there. Throws Error{failed_precondition, reason "etag_mismatch"}.
void check_conditions(const net::Request& request, std::optional<int64_t> etag);

// The members of `object` that `names` has, in its order; all if it is empty.
json::object select_members(const json::object& object, const std::vector<std::string>& names);

}  // namespace neutrino::cloud
