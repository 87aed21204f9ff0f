// The way back from a good GGUF file to the structure that it was written from, so that a fuzzer can change fields of a file
// that it found.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>

#include "weights/gguf.h"
#include "weights/testing/gguf_writer.h"

namespace neutrino::weights::testing {

inline std::string take_text(Reader& reader, uint64_t count) {
  const auto bytes = reader.take(count, "bytes");
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The bytes of a value behind its type, as they stand.
inline std::string take_payload(Reader& reader, uint32_t type) {
  static constexpr uint64_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  Reader start = reader;
  if (type == static_cast<uint32_t>(GgufType::string)) {
    reader.string(1 << 20, "string");
  } else if (type == static_cast<uint32_t>(GgufType::array)) {
    const auto element = reader.number<uint32_t>("element type");
    const auto count = reader.number<uint64_t>("array length");
    if (element == static_cast<uint32_t>(GgufType::string)) {
      for (uint64_t i = 0; i < count; ++i) reader.string(1 << 20, "string");
    } else {
      reader.take(count * kBytes[element], "array");
    }
  } else {
    reader.take(kBytes[type], "number");
  }
  return take_text(start, reader.offset() - start.offset());
}

inline GgufTensor take_tensor_info(Reader& reader) {
  GgufTensor tensor;
  tensor.name = reader.string(1 << 10, "name");
  tensor.dimensions.resize(reader.number<uint32_t>("number of dimensions"));
  for (auto& size : tensor.dimensions) size = reader.number<uint64_t>("dimension");
  tensor.type = reader.number<uint32_t>("type");
  tensor.offset = reader.number<uint64_t>("offset");
  return tensor;
}

// nullopt: parse_gguf() refuses the file, so its structure means nothing.
inline std::optional<GgufImage> read_image(std::span<const std::byte> bytes) {
  std::unique_ptr<WeightFile> file;
  try {
    file = parse_gguf("image.gguf", bytes);
  } catch (const Error&) {
    return std::nullopt;
  }
  Reader reader(bytes);
  GgufImage image;
  image.magic = take_text(reader, 4);
  image.version = reader.number<uint32_t>("version");
  const auto tensors = reader.number<uint64_t>("tensor count"),
             entries = reader.number<uint64_t>("metadata count");
  for (uint64_t i = 0; i < entries; ++i) {
    GgufKeyValue entry{.key = std::string(reader.string(1 << 20, "key")),
                       .type = reader.number<uint32_t>("type"),
                       .payload = {}};
    entry.payload = take_payload(reader, entry.type);
    image.metadata.push_back(std::move(entry));
  }
  for (uint64_t i = 0; i < tensors; ++i) {
    image.tensors.push_back(take_tensor_info(reader));
    const TensorEntry* entry = file->find(image.tensors.back().name);
    image.tensors.back().data.assign(reinterpret_cast<const char*>(entry->data),
                                     static_cast<size_t>(entry->bytes));
  }
  std::stable_sort(image.tensors.begin(), image.tensors.end(),
                   [](auto& a, auto& b) { return a.offset < b.offset; });
  image.alignment = static_cast<uint64_t>(file->metadata().integer("general.alignment").value_or(32));
  return image;
}

}  // namespace neutrino::weights::testing
