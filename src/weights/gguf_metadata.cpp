#include "weights/gguf_metadata.h"

#include <array>

#include "base/checked.h"
#include "base/error.h"
#include "base/limits.h"

namespace neutrino::weights {
namespace {

struct TypeInfo {
  std::string_view name;
  uint64_t bytes;  // 0: no fixed size
};
constexpr std::array<TypeInfo, kGgufTypes> kTypes{{{"u8", 1},
                                                   {"i8", 1},
                                                   {"u16", 2},
                                                   {"i16", 2},
                                                   {"u32", 4},
                                                   {"i32", 4},
                                                   {"f32", 4},
                                                   {"bool", 1},
                                                   {"string", 0},
                                                   {"array", 0},
                                                   {"u64", 8},
                                                   {"i64", 8},
                                                   {"f64", 8}}};

const TypeInfo& info(GgufType type) { return kTypes[static_cast<size_t>(type)]; }

GgufType read_type(Reader& reader, std::string_view key) {
  const auto number = reader.number<uint32_t>("value type");
  if (number >= kGgufTypes)
    throw refuse("value_type", "the type of {} must be 0-{}, got {}", in_quotes(key), kGgufTypes - 1, number);
  return static_cast<GgufType>(number);
}

// true and false are 1 and 0: any other byte read as a bool would be undefined behaviour.
void check_booleans(std::span<const std::byte> bytes, std::string_view key) {
  for (const std::byte b : bytes)
    if (b > std::byte{1})
      throw refuse("boolean", "a bool of {} must be 0 or 1, got {}", in_quotes(key), std::to_integer<int>(b));
}

void skip_strings(Reader& reader, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) reader.string(limits::kGgufStringBytes, "string of an array");
}

std::span<const std::byte> read_elements(Reader& reader, GgufType element, uint64_t count,
                                         std::string_view key) {
  if (count > uint64_t{limits::kGgufArrayElements})
    throw refuse("array_count", "the array {} must have at most {} elements, got {}", in_quotes(key),
                 limits::kGgufArrayElements, count);
  if (element != GgufType::string) return reader.take(count * info(element).bytes, "array");
  const auto rest = reader.rest();
  skip_strings(reader, count);
  return rest.first(rest.size() - reader.remaining());
}

GgufValue read_array(Reader& reader, std::string_view key) {
  const GgufType element = read_type(reader, key);
  if (element == GgufType::array)
    throw refuse("nested_array", "{} must not be an array of arrays", in_quotes(key));
  const auto count = reader.number<uint64_t>("array length");
  const auto bytes = read_elements(reader, element, count, key);
  if (element == GgufType::boolean) check_booleans(bytes, key);
  return {GgufType::array, element, static_cast<int64_t>(count), bytes};
}

GgufValue read_value(Reader& reader, std::string_view key) {
  const GgufType type = read_type(reader, key);
  if (type == GgufType::array) return read_array(reader, key);
  if (type == GgufType::string) {
    const auto text = reader.string(limits::kGgufStringBytes, "string");
    return {.type = type, .bytes = std::as_bytes(std::span(text.data(), text.size()))};
  }
  const GgufValue value{.type = type, .bytes = reader.take(info(type).bytes, "number")};
  if (type == GgufType::boolean) check_booleans(value.bytes, key);
  return value;
}

void check_declared_type(std::string_view key, const GgufValue& value) {
  const auto kind = known_key_kind(key);
  if (kind && !holds(value, *kind))
    throw refuse("key_type", "{} must be {}, got {}", in_quotes(key), key_kind_name(*kind),
                 value.type_name());
}

// Element i of a number, a bool or an array of them; nullopt where an unsigned one does not fit, or it is no integer.
std::optional<int64_t> integer_at(const GgufValue& value, int64_t i) {
  switch (value.type == GgufType::array ? value.element : value.type) {
    case GgufType::u8:
    case GgufType::boolean: return value.at<uint8_t>(i);
    case GgufType::i8: return value.at<int8_t>(i);
    case GgufType::u16: return value.at<uint16_t>(i);
    case GgufType::i16: return value.at<int16_t>(i);
    case GgufType::u32: return value.at<uint32_t>(i);
    case GgufType::i32: return value.at<int32_t>(i);
    case GgufType::u64: return checked_cast<int64_t>(value.at<uint64_t>(i));
    case GgufType::i64: return value.at<int64_t>(i);
    default: return std::nullopt;
  }
}

int64_t required_integer_at(const GgufValue& value, int64_t i, std::string_view key) {
  if (const auto number = integer_at(value, i)) return *number;
  throw refuse("key_range", "{} must be at most 2^63 - 1, got {}", in_quotes(key), value.at<uint64_t>(i));
}

double number_at(const GgufValue& value, int64_t i) {
  const GgufType type = value.type == GgufType::array ? value.element : value.type;
  return type == GgufType::f32 ? value.at<float>(i) : value.at<double>(i);
}

// f(i) for every element, as a vector of T.
template <typename T, typename F>
std::vector<T> elements(const GgufValue& value, F f) {
  std::vector<T> out;
  out.reserve(static_cast<size_t>(value.count));
  for (int64_t i = 0; i < value.count; ++i) out.push_back(f(i));
  return out;
}

bool is_number(GgufType type) { return type == GgufType::f32 || type == GgufType::f64; }

const GgufValue* find_as(const GgufMetadata& metadata, std::string_view key, KeyKind kind) {
  const GgufValue* value = metadata.find(key);
  if (value && !holds(*value, kind))
    throw refuse("key_type", "{} must be {}, got {}", in_quotes(key), key_kind_name(kind),
                 value->type_name());
  return value;
}

}  // namespace

std::string_view gguf_type_name(GgufType type) { return info(type).name; }

bool is_integer(GgufType type) {
  return type <= GgufType::i32 || type == GgufType::u64 || type == GgufType::i64;
}

std::string GgufValue::type_name() const {
  if (type != GgufType::array) return std::string(gguf_type_name(type));
  return fmt::format("array of {}", gguf_type_name(element));
}

bool holds(const GgufValue& value, KeyKind kind) {
  const bool array = value.type == GgufType::array;
  switch (kind) {
    case KeyKind::integer: return is_integer(value.type);
    case KeyKind::integers_or_integer: return is_integer(array ? value.element : value.type);
    case KeyKind::number: return value.type == GgufType::f32 || value.type == GgufType::f64;
    case KeyKind::boolean: return value.type == GgufType::boolean;
    case KeyKind::text: return value.type == GgufType::string;
    case KeyKind::texts: return array && value.element == GgufType::string;
    case KeyKind::floats: return array && value.element == GgufType::f32;
    case KeyKind::doubles: return array && value.element == GgufType::f64;
    case KeyKind::int32s: return array && value.element == GgufType::i32;
    case KeyKind::bytes: return array && (value.element == GgufType::u8 || value.element == GgufType::i8);
  }
  return false;
}

std::string_view key_kind_name(KeyKind kind) {
  switch (kind) {
    case KeyKind::integer: return "an integer";
    case KeyKind::integers_or_integer: return "an integer or an array of integers";
    case KeyKind::number: return "f32 or f64";
    case KeyKind::boolean: return "a bool";
    case KeyKind::text: return "a string";
    case KeyKind::texts: return "an array of string";
    case KeyKind::floats: return "an array of f32";
    case KeyKind::doubles: return "an array of f64";
    case KeyKind::int32s: return "an array of i32";
    case KeyKind::bytes: return "an array of u8 or i8";
  }
  return "";
}

GgufMetadata GgufMetadata::parse(Reader& reader, uint64_t count) {
  GgufMetadata metadata;
  for (uint64_t i = 0; i < count; ++i) {
    const auto key = reader.string(limits::kGgufKeyBytes, "metadata key");
    if (!is_name(key))
      throw refuse("key_name", "a metadata key must be printable ASCII without spaces, got {}",
                   in_quotes(key));
    const GgufValue value = read_value(reader, key);
    check_declared_type(key, value);
    if (!metadata.values_.emplace(key, value).second)
      throw refuse("duplicate_key", "the metadata has {} twice", in_quotes(key));
    metadata.keys_.push_back(key);
  }
  return metadata;
}

const GgufValue* GgufMetadata::find(std::string_view key) const {
  const auto found = values_.find(key);
  return found == values_.end() ? nullptr : &found->second;
}

std::optional<int64_t> GgufMetadata::integer(std::string_view key) const {
  const GgufValue* value = find_as(*this, key, KeyKind::integer);
  if (!value) return std::nullopt;
  return required_integer_at(*value, 0, key);
}

std::optional<double> GgufMetadata::number(std::string_view key) const {
  const GgufValue* value = find_as(*this, key, KeyKind::number);
  if (!value) return std::nullopt;
  return number_at(*value, 0);
}

std::optional<bool> GgufMetadata::boolean(std::string_view key) const {
  const GgufValue* value = find_as(*this, key, KeyKind::boolean);
  if (!value) return std::nullopt;
  return value->at<uint8_t>(0) == 1;
}

std::optional<std::string_view> GgufMetadata::text(std::string_view key) const {
  const GgufValue* value = find_as(*this, key, KeyKind::text);
  if (!value) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(value->bytes.data()), value->bytes.size());
}

std::optional<std::vector<int64_t>> GgufMetadata::integers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (value->type != GgufType::array || !(is_integer(value->element) || value->element == GgufType::boolean))
    throw refuse("key_type", "{} must be an array of integers, got {}", in_quotes(key), value->type_name());
  return elements<int64_t>(*value, [&](int64_t i) { return required_integer_at(*value, i, key); });
}

std::optional<std::vector<double>> GgufMetadata::numbers(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (value->type != GgufType::array || !is_number(value->element))
    throw refuse("key_type", "{} must be an array of f32 or f64, got {}", in_quotes(key), value->type_name());
  return elements<double>(*value, [&](int64_t i) { return number_at(*value, i); });
}

std::vector<std::string> GgufMetadata::keys() const { return {keys_.begin(), keys_.end()}; }

MetadataValue GgufMetadata::value(std::string_view key) const {
  const GgufValue* found = find(key);
  check(found != nullptr, "a metadata key that the file does not have");
  const bool array = found->type == GgufType::array;
  const GgufType type = array ? found->element : found->type;
  if (type == GgufType::string) {
    if (!array) return std::string(*text(key));
    const auto views = *texts(key);
    return std::vector<std::string>(views.begin(), views.end());
  }
  if (is_number(type)) {
    if (!array) return number_at(*found, 0);
    return *numbers(key);
  }
  if (type == GgufType::boolean) {
    if (!array) return found->at<uint8_t>(0) == 1;
    return elements<bool>(*found, [&](int64_t i) { return found->at<uint8_t>(i) == 1; });
  }
  if (!array) return required_integer_at(*found, 0, key);
  return *integers(key);
}

std::optional<std::vector<std::string_view>> GgufMetadata::texts(std::string_view key) const {
  const GgufValue* value = find_as(*this, key, KeyKind::texts);
  if (!value) return std::nullopt;
  std::vector<std::string_view> texts(static_cast<size_t>(value->count));
  Reader reader(value->bytes);
  for (auto& text : texts) text = reader.string(limits::kGgufStringBytes, "string of an array");
  return texts;
}

}  // namespace neutrino::weights
