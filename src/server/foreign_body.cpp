#include "server/foreign_body.h"

#include "net/schema.h"

namespace neutrino::server {

using net::find;

const json::object& object_at(const json::value& value, const std::string& path) {
  if (!value.is_object()) throw invalid_field(path + " must be of type object", path, "invalid_type");
  return value.get_object();
}

const json::array& array_at(const json::value& value, const std::string& path) {
  if (!value.is_array()) throw invalid_field(path + " must be of type array", path, "invalid_type");
  return value.get_array();
}

std::string text_at(const json::object& object, std::string_view name, const std::string& path) {
  const std::string where = path + "." + std::string(name);
  const auto* value = find(object, name);
  if (!value) throw invalid_field(where + " is required", where, "missing_required_parameter");
  if (!value->is_string()) throw invalid_field(where + " must be of type string", where, "invalid_type");
  return std::string(value->get_string());
}

std::string type_at(const json::object& object, const std::string& path) {
  return text_at(object, "type", path);
}

Error unsupported_type(const std::string& path, std::string_view got, std::string_view supported) {
  return invalid_field(fmt::format("{} must be {}, got \"{:.60}\"", path, supported, got), path,
                       "unsupported_parameter");
}

json::object text_part(std::string text) { return {{"type", "text"}, {"text", std::move(text)}}; }

void copy_fields(const json::object& from, json::object& to,
                 std::initializer_list<std::pair<std::string_view, std::string_view>> names) {
  for (const auto& [old_name, new_name] : names)
    if (const auto* value = find(from, old_name)) to[new_name] = *value;
}

}  // namespace neutrino::server
