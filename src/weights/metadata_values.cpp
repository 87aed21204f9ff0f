#include "weights/metadata_values.h"

#include "base/error.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

constexpr std::string_view kKinds[] = {"an integer",         "a number",           "a boolean",
                                       "a string",           "a list of integers", "a list of numbers",
                                       "a list of booleans", "a list of strings"};

Error wrong_type(std::string_view key, std::string_view expected, const MetadataValue& value) {
  return refuse("key_type", "{} must be {}, got {}", printable(key, 120), expected, kKinds[value.index()]);
}

}  // namespace

const MetadataValue* MetadataValues::find(std::string_view key) const {
  for (const auto& [name, value] : values_)
    if (name == key) return &value;
  return nullptr;
}

std::optional<int64_t> MetadataValues::integer(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<int64_t>(value)) return *number;
  throw wrong_type(key, "an integer", *value);
}

std::optional<double> MetadataValues::number(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* number = std::get_if<double>(value)) return *number;
  throw wrong_type(key, "a number", *value);
}

std::optional<bool> MetadataValues::boolean(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* flag = std::get_if<bool>(value)) return *flag;
  throw wrong_type(key, "a boolean", *value);
}

std::optional<std::string_view> MetadataValues::text(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* text = std::get_if<std::string>(value)) return *text;
  throw wrong_type(key, "a string", *value);
}

std::optional<std::vector<int64_t>> MetadataValues::integers(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* list = std::get_if<std::vector<int64_t>>(value)) return *list;
  if (const auto* list = std::get_if<std::vector<bool>>(value))
    return std::vector<int64_t>(list->begin(), list->end());
  throw wrong_type(key, "a list of integers", *value);
}

std::optional<std::vector<double>> MetadataValues::numbers(std::string_view key) const {
  const MetadataValue* value = find(key);
  if (!value) return std::nullopt;
  if (const auto* list = std::get_if<std::vector<double>>(value)) return *list;
  throw wrong_type(key, "a list of numbers", *value);
}

std::vector<std::string> MetadataValues::keys() const {
  std::vector<std::string> keys;
  for (const auto& [name, value] : values_) keys.push_back(name);
  return keys;
}

MetadataValue MetadataValues::value(std::string_view key) const {
  const MetadataValue* value = find(key);
  check(value != nullptr, "the key is there");
  return *value;
}

}  // namespace neutrino::weights
