#include "net/schema.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/fault.h"

namespace neutrino::net {
namespace {

constexpr double kTwoTo63 = 9223372036854775808.0;

bool is_whole(const json::value& value) {
  if (value.is_int64()) return true;
  if (!value.is_double()) return false;
  const double number = value.get_double();  // -2^63 itself comes as an integer, unless it was rounded to it
  return std::floor(number) == number && number > -kTwoTo63 && number < kTwoTo63;
}

bool has_type(const json::value& value, int types) {
  switch (value.kind()) {
    case json::kind::string: return types & kString;
    case json::kind::bool_: return types & kBoolean;
    case json::kind::array: return types & kArray;
    case json::kind::object: return types & kObject;
    case json::kind::null: return false;
    default: break;
  }
  if (types & kNumber) return std::isfinite(value.to_number<double>());
  return (types & kInteger) && is_whole(value);
}

constexpr std::pair<int, std::string_view> kTypeNames[] = {{kString, "string"},   {kBoolean, "boolean"},
                                                           {kInteger, "integer"}, {kNumber, "number"},
                                                           {kArray, "array"},     {kObject, "object"}};

std::string type_names(int types) {
  std::string names;
  for (const auto& [type, name] : kTypeNames)
    if (types & type) names += (names.empty() ? "" : " or ") + std::string(name);
  return names;
}

Error invalid(std::string message, std::string_view reason, std::string_view param) {
  return Error(ErrorCode::invalid_argument, std::move(message))
      .with_reason(std::string(reason))
      .with_param(std::string(param));
}

bool is_neutral(const Field& field, const json::value& value) {
  if (field.neutral.empty()) return false;
  const json::value neutral = json::parse(json::string_view(field.neutral));
  const json::array& values = neutral.as_array();
  return std::find(values.begin(), values.end(), value) != values.end();
}

void check_range(const Field& field, const json::value& value) {
  if (!value.is_number()) return;
  const double number = value.to_number<double>();
  const bool low = field.above_minimum ? number <= field.minimum : number < field.minimum;
  if (!low && number <= field.maximum) return;
  throw invalid(fmt::format("{} must be {} {}{}, got {:.50}", field.name,
                            field.above_minimum ? "above" : "at least", field.minimum,
                            std::isinf(field.maximum) ? "" : fmt::format(" and at most {}", field.maximum),
                            to_text(value)),
                "invalid_value", field.name);
}

void check_field(const Field& field, const json::value& value, std::vector<std::string>& ignored) {
  switch (field.support) {
    case Support::reported: ignored.emplace_back(field.name); return;
    case Support::unsupported:
      if (is_neutral(field, value)) return;
      throw invalid(
          fmt::format("{} is not supported by this server{}", field.name,
                      field.neutral.empty() ? "" : fmt::format(" (only the values {})", field.neutral)),
          "unsupported_parameter", field.name);
    case Support::honoured: break;
  }
  if (!has_type(value, field.types)) {
    const bool number = value.is_number() && (field.types & (kInteger | kNumber));
    throw invalid(fmt::format("{} must be {}, got {:.50}", field.name,
                              number ? "a finite number in range" : "of type " + type_names(field.types),
                              to_text(value)),
                  number ? "invalid_value" : "invalid_type", field.name);
  }
  check_range(field, value);
}

json::array type_list(int types) {
  json::array list;
  for (const auto& [type, name] : kTypeNames)
    if (types & type) list.emplace_back(json::string_view(name));
  return list;
}

json::object field_schema(const Field& field) {
  json::object schema;
  json::array types = type_list(field.types);
  if (!field.required) types.emplace_back("null");
  if (types.size() == 1)
    schema["type"] = types[0];
  else
    schema["type"] = std::move(types);
  if ((field.types & kInteger) && !(field.types & kNumber)) {
    schema["minimum"] = std::numeric_limits<int64_t>::min();
    schema["maximum"] = std::numeric_limits<int64_t>::max();
  }
  if (std::isfinite(field.minimum))
    schema[field.above_minimum ? "exclusiveMinimum" : "minimum"] = field.minimum;
  if (std::isfinite(field.maximum)) schema["maximum"] = field.maximum;
  if (!field.items.empty()) {
    const json::value extra = json::parse(json::string_view(field.items));
    for (const auto& [key, value] : extra.get_object()) schema[key] = value;
  }
  return schema;
}

}  // namespace

json::object parse_body(std::string_view body, std::span<const Field> fields,
                        std::vector<std::string>& ignored) {
  fault_point("request_parse");
  json::value parsed = parse_json(body);
  if (!parsed.is_object())
    throw Error(ErrorCode::invalid_argument, "the request body must be a JSON object")
        .with_reason("invalid_type");
  json::object checked;
  for (auto& [key, value] : parsed.get_object()) {
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const Field& f) { return f.name == key; });
    if (field == fields.end()) {
      ignored.emplace_back(key);
      continue;
    }
    if (!value.is_null()) check_field(*field, value, ignored);
    checked.emplace(key, std::move(value));
  }
  for (const Field& field : fields)
    if (field.required && !find(checked, field.name))
      throw invalid(fmt::format("{} is required", field.name), "missing_required_parameter", field.name);
  return checked;
}

json::object json_schema(std::span<const Field> fields) {
  json::object schema, properties;
  json::array required;
  for (const Field& field : fields) {
    if (field.support != Support::honoured) continue;
    properties[field.name] = field_schema(field);
    if (field.required) required.emplace_back(json::string_view(field.name));
  }
  schema["type"] = "object";
  schema["properties"] = std::move(properties);
  if (!required.empty()) schema["required"] = std::move(required);
  schema["additionalProperties"] = true;
  return schema;
}

const json::value* find(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

int64_t to_integer(const json::value& value) {
  return value.is_double() ? static_cast<int64_t>(value.get_double()) : value.to_number<int64_t>();
}

}  // namespace neutrino::net
