// JSON Schema of a struct with fields(), for /openapi.json.
#pragma once

#include <string>
#include <string_view>

#include "base/fields.h"

namespace neutrino::cloud {

// The same text, for as long as the program runs: what RouteSpec's views point to.
std::string_view keep_text(std::string text);

template <HasFields T>
json::object struct_schema();

template <typename T>
json::object value_schema() {
  if constexpr (HasFields<T>) {
    return struct_schema<T>();
  } else if constexpr (neutrino::detail::is_optional<T>) {
    json::object schema = value_schema<typename T::value_type>();
    if (schema.contains("type")) schema["type"] = json::array{schema["type"], "null"};
    return schema;
  } else if constexpr (neutrino::detail::is_vector<T>) {
    return {{"type", "array"}, {"items", value_schema<typename T::value_type>()}};
  } else if constexpr (NamedEnum<T>) {
    json::array names;
    for (const std::string_view name : enum_names(T{})) names.push_back(json::value(name));
    return {{"type", "string"}, {"enum", std::move(names)}};
  } else if constexpr (std::is_same_v<T, bool>) {
    return {{"type", "boolean"}};
  } else if constexpr (std::is_same_v<T, int64_t>) {
    return {{"type", "integer"}, {"format", "int64"}};
  } else if constexpr (std::is_same_v<T, double>) {
    return {{"type", "number"}};
  } else if constexpr (std::is_same_v<T, std::string>) {
    return {{"type", "string"}};
  } else {
    return {};
  }
}

template <HasFields T>
json::object struct_schema() {
  json::object properties;
  for_each_field<T>([&](const auto& f) {
    if (f.options.secret) return;
    json::object schema = value_schema<typename std::remove_cvref_t<decltype(f)>::Type>();
    if (!f.options.help.empty()) schema["description"] = f.options.help;
    if (f.options.read_only) schema["readOnly"] = true;
    properties.emplace(f.name, std::move(schema));
  });
  return {{"type", "object"}, {"properties", std::move(properties)}};
}

// An object of it; `more`: properties beside the struct's.
template <HasFields T>
std::string_view struct_schema_text(const json::object& more = {}) {
  json::object schema = struct_schema<T>();
  for (const auto& member : more) schema["properties"].as_object().emplace(member.key(), member.value());
  return keep_text(to_text(schema));
}

// A page of them.
template <HasFields T>
std::string_view page_schema_text(const json::object& more = {}) {
  json::object item = struct_schema<T>();
  for (const auto& member : more) item["properties"].as_object().emplace(member.key(), member.value());
  const json::object schema{{"type", "object"},
                            {"required", {"items", "next", "seq"}},
                            {"properties",
                             {{"items", {{"type", "array"}, {"items", std::move(item)}}},
                              {"next", {{"type", "string"}}},
                              {"seq", {{"type", "integer"}}}}}};
  return keep_text(to_text(schema));
}

}  // namespace neutrino::cloud
