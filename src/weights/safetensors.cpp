#include "weights/safetensors.h"

#include <algorithm>
#include <optional>

#include "base/checked.h"
#include "base/json.h"
#include "base/limits.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

struct TypeInfo {
  StType type;
  std::string_view name;
  int64_t bits;
};

constexpr TypeInfo kTypes[] = {
    {StType::boolean, "BOOL", 8},
    {StType::u8, "U8", 8},
    {StType::i8, "I8", 8},
    {StType::i16, "I16", 16},
    {StType::u16, "U16", 16},
    {StType::i32, "I32", 32},
    {StType::u32, "U32", 32},
    {StType::i64, "I64", 64},
    {StType::u64, "U64", 64},
    {StType::f16, "F16", 16},
    {StType::bf16, "BF16", 16},
    {StType::f32, "F32", 32},
    {StType::f64, "F64", 64},
    {StType::c64, "C64", 64},
    {StType::f8_e4m3, "F8_E4M3", 8},
    {StType::f8_e5m2, "F8_E5M2", 8},
    {StType::f8_e8m0, "F8_E8M0", 8},
    {StType::f8_e4m3fnuz, "F8_E4M3FNUZ", 8},
    {StType::f8_e5m2fnuz, "F8_E5M2FNUZ", 8},
    {StType::f6_e2m3, "F6_E2M3", 6},
    {StType::f6_e3m2, "F6_E3M2", 6},
    {StType::f4, "F4", 4},
};

const TypeInfo& info(StType type) {
  const auto* found =
      std::find_if(std::begin(kTypes), std::end(kTypes), [&](auto& t) { return t.type == type; });
  check(found != std::end(kTypes), "every type is in the table");
  return *found;
}

std::string_view header_text(std::span<const std::byte> bytes) {
  Reader reader(bytes);
  const auto length = reader.number<uint64_t>("header length");
  if (length > uint64_t{limits::kSafetensorsHeaderBytes})
    throw refuse("header_length", "the header must be at most {} bytes long, got {}",
                 limits::kSafetensorsHeaderBytes, length);
  const auto text = reader.take(length, "header");
  if (text.empty() || text.front() != std::byte{'{'})
    throw refuse("header_start", "the header must begin with \"{{\"");
  return {reinterpret_cast<const char*>(text.data()), text.size()};
}

StType read_type(const json::value* value, std::string_view tensor) {
  if (!value || !value->is_string())
    throw refuse("tensor_field", "tensor {} must have a dtype", in_quotes(tensor));
  const std::string_view name = value->get_string();
  for (const TypeInfo& type : kTypes)
    if (type.name == name) return type.type;
  throw make_error(ErrorCode::unimplemented, "tensor {} has the unknown dtype {}", in_quotes(tensor),
                   in_quotes(name))
      .with_reason("tensor_type");
}

int64_t read_size(const json::value& value, std::string_view what, std::string_view tensor) {
  if (value.is_int64() && value.get_int64() >= 0) return value.get_int64();
  throw refuse("tensor_number", "a {} of tensor {} must be an integer from 0 to 2^63 - 1, got {}", what,
               in_quotes(tensor), printable(to_text(value), 40));
}

std::vector<int64_t> read_shape(const json::value* value, std::string_view tensor) {
  if (!value || !value->is_array())
    throw refuse("tensor_field", "tensor {} must have a shape", in_quotes(tensor));
  const json::array& sizes = value->get_array();
  if (sizes.size() > size_t{limits::kSafetensorsDimensions})
    throw refuse("dimensions", "tensor {} must have at most {} dimensions, got {}", in_quotes(tensor),
                 limits::kSafetensorsDimensions, sizes.size());
  std::vector<int64_t> shape;
  for (const json::value& size : sizes) shape.push_back(read_size(size, "dimension", tensor));
  return shape;
}

// The bytes that a tensor of this shape takes.
int64_t shape_bytes(const StTensor& tensor) {
  std::optional<int64_t> elements = 1;
  for (const int64_t size : tensor.shape) {
    elements = checked_mul(*elements, size);
    if (!elements) break;
  }
  const auto bits = elements ? checked_mul(*elements, info(tensor.type).bits) : std::nullopt;
  if (!bits || *bits % 8 != 0)
    throw refuse("tensor_size", "tensor {} of shape {} and dtype {} has no size in bytes",
                 in_quotes(tensor.name), shape_text(tensor.shape), info(tensor.type).name);
  return *bits / 8;
}

struct Placed {
  StTensor tensor;
  int64_t begin = 0, end = 0;
};

Placed read_tensor(std::string_view name, const json::value& value) {
  if (!is_name(name) || static_cast<int64_t>(name.size()) > limits::kSafetensorsNameBytes)
    throw refuse("tensor_name",
                 "a tensor name must be printable ASCII without spaces, at most {} bytes, got {}",
                 limits::kSafetensorsNameBytes, in_quotes(name));
  if (!value.is_object()) throw refuse("tensor_field", "tensor {} must be a JSON object", in_quotes(name));
  const json::object& object = value.get_object();
  for (const auto& [key, ignored] : object)
    if (key != "dtype" && key != "shape" && key != "data_offsets")
      throw refuse("tensor_field", "tensor {} has the unknown field {}", in_quotes(name), in_quotes(key));
  Placed placed{.tensor = {.name = std::string(name),
                           .type = read_type(object.if_contains("dtype"), name),
                           .shape = read_shape(object.if_contains("shape"), name)}};
  const json::value* offsets = object.if_contains("data_offsets");
  if (!offsets || !offsets->is_array() || offsets->get_array().size() != 2)
    throw refuse("tensor_field", "tensor {} must have two data_offsets", in_quotes(name));
  placed.begin = read_size(offsets->get_array()[0], "data offset", name);
  placed.end = read_size(offsets->get_array()[1], "data offset", name);
  placed.tensor.bytes = shape_bytes(placed.tensor);
  return placed;
}

// The tensors stand in the header in the order of their data, each where the one before it ends.
void place(Placed& placed, std::span<const std::byte> data, int64_t expected_begin) {
  const std::string name = in_quotes(placed.tensor.name);
  if (placed.end < placed.begin)
    throw refuse("tensor_range", "tensor {} ends at offset {}, before it begins at {}", name, placed.end,
                 placed.begin);
  if (placed.end - placed.begin != placed.tensor.bytes)
    throw refuse("tensor_bytes",
                 "tensor {} of shape {} and dtype {} takes {} bytes, but its offsets are {} apart", name,
                 shape_text(placed.tensor.shape), info(placed.tensor.type).name, placed.tensor.bytes,
                 placed.end - placed.begin);
  if (placed.end > static_cast<int64_t>(data.size()))
    throw refuse("tensor_range", "tensor {} ends at offset {} of the data, which has {} bytes", name,
                 placed.end, data.size());
  if (placed.begin < expected_begin)
    throw refuse("tensor_overlap", "tensor {} begins at offset {}: the tensor listed before it ends at {}",
                 name, placed.begin, expected_begin);
  if (placed.begin > expected_begin)
    throw refuse("unused_bytes",
                 "tensor {} begins at offset {}, but the tensor listed before it ends at {}: tensors must be "
                 "listed in the "
                 "order of their data and leave no hole",
                 name, placed.begin, expected_begin);
  placed.tensor.data = data.data() + placed.begin;
}

void read_metadata(const json::value& value, SafetensorsFile& file) {
  if (!value.is_object()) throw refuse("metadata", "__metadata__ must be a JSON object of strings");
  for (const auto& [key, text] : value.get_object()) {
    if (!text.is_string()) throw refuse("metadata", "__metadata__ {} must be a string", in_quotes(key));
    file.metadata.emplace_back(key, text.get_string());
  }
}

}  // namespace

std::string_view st_type_name(StType type) { return info(type).name; }
int64_t st_type_bits(StType type) { return info(type).bits; }

int64_t StTensor::elements() const {
  int64_t count = 1;  // shape_bytes() has seen that the product fits
  for (const int64_t size : shape) count *= size;
  return count;
}

SafetensorsFile parse_safetensors(std::span<const std::byte> bytes) {
  const std::string_view text = header_text(bytes);
  const auto data = bytes.subspan(8 + text.size());
  const json::value header = parse_json(text);
  SafetensorsFile file;
  int64_t end = 0;
  for (const auto& [name, value] : header.as_object()) {
    if (name == "__metadata__") {
      read_metadata(value, file);
      continue;
    }
    Placed placed = read_tensor(name, value);
    place(placed, data, end);
    end = placed.end;
    file.tensors.push_back(std::move(placed.tensor));
  }
  if (file.tensors.empty()) throw refuse("no_tensors", "the file holds no tensors");
  if (end != static_cast<int64_t>(data.size()))
    throw refuse("unused_bytes", "{} bytes behind the last tensor belong to none",
                 static_cast<int64_t>(data.size()) - end);
  return file;
}

}  // namespace neutrino::weights
