// Safetensors files for tests: a plain structure that says all that a file says, and serialise(), which believes it.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "compute/dtype.h"

namespace neutrino::weights::testing {

struct StImageTensor {
  std::string name;
  std::string dtype = "F32";
  std::vector<int64_t> shape;
  std::string data;
  std::optional<std::string> offsets = {};  // JSON in place of the true ones
  std::optional<std::string> entry = {};    // JSON in place of the whole entry
};

struct StImage {
  std::vector<StImageTensor> tensors;
  std::string metadata = R"({"format":"pt"})";  // JSON; empty: none
  std::optional<uint64_t> header_length = {};   // empty: the true one
  std::optional<std::string> header = {};       // in place of the one made of all this
  std::string tail;                             // behind the data

  StImageTensor* find(std::string_view name) {
    for (auto& tensor : tensors)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
};

inline std::string shape_json(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t size : shape) text += (text.size() > 1 ? "," : "") + std::to_string(size);
  return text + "]";
}

// Padded with spaces to a multiple of eight bytes, as the format's own library does.
inline std::string header_json(const StImage& image) {
  std::string header = "{";
  const auto add = [&](const std::string& name, const std::string& value) {
    header += (header.size() > 1 ? "," : "") + to_text(json::value(name)) + ":" + value;
  };
  if (!image.metadata.empty()) add("__metadata__", image.metadata);
  size_t begin = 0;
  for (const StImageTensor& tensor : image.tensors) {
    const size_t end = begin + tensor.data.size();
    const std::string offsets =
        tensor.offsets.value_or("[" + std::to_string(begin) + "," + std::to_string(end) + "]");
    add(tensor.name, tensor.entry.value_or("{\"dtype\":" + to_text(json::value(tensor.dtype)) +
                                           ",\"shape\":" + shape_json(tensor.shape) +
                                           ",\"data_offsets\":" + offsets + "}"));
    begin = end;
  }
  header += "}";
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return header;
}

inline std::string serialise(const StImage& image) {
  const std::string header = image.header.value_or(header_json(image));
  const uint64_t length = image.header_length.value_or(header.size());
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  file += header;
  for (const StImageTensor& tensor : image.tensors) file += tensor.data;
  return file + image.tail;
}

// Values in the bytes of F32, F16 or BF16.
inline std::string floats_as(std::string_view dtype, const std::vector<float>& values) {
  std::string bytes;
  const auto append = [&](auto value) { bytes.append(reinterpret_cast<const char*>(&value), sizeof value); };
  for (const float value : values) {
    if (dtype == "F32")
      append(value);
    else if (dtype == "F16")
      append(compute::f32_to_f16(value));
    else
      append(compute::f32_to_bf16(value));
  }
  return bytes;
}

inline std::vector<float> random_floats(Random& random, int64_t count, float scale) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(scale * static_cast<float>(2 * random.uniform() - 1));
  return values;
}

inline StImageTensor random_tensor(Random& random, std::string name, std::string dtype,
                                   std::vector<int64_t> shape, float scale = 0.1f) {
  int64_t count = 1;
  for (const int64_t size : shape) count *= size;
  return {.name = std::move(name),
          .dtype = dtype,
          .shape = std::move(shape),
          .data = floats_as(dtype, random_floats(random, count, scale))};
}

}  // namespace neutrino::weights::testing
