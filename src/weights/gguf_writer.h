// Writes GGUF files (version 3): key-value pairs, tensor infos, padding, tensor data.
//
// The sizes of all tensors follow from their types and shapes, so the header is written before any data exists: a model is
// written tensor by tensor and never stands in memory whole. The same input gives the same bytes. The file appears under its
// name when it is complete (temporary file, fsync, rename, fsync of the folder), and not before.
#pragma once

#include <concepts>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "compute/dtype.h"
#include "weights/gguf_metadata.h"

namespace neutrino::weights {

inline constexpr int64_t kGgufWriteAlignment = 32;  // the format's default

// GGUF's type for a C++ type. Only exact matches: which width a key has is part of the format.
template <typename T>
consteval GgufType gguf_type_of() {
  if constexpr (std::same_as<T, uint8_t>) return GgufType::u8;
  if constexpr (std::same_as<T, int8_t>) return GgufType::i8;
  if constexpr (std::same_as<T, uint16_t>) return GgufType::u16;
  if constexpr (std::same_as<T, int16_t>) return GgufType::i16;
  if constexpr (std::same_as<T, uint32_t>) return GgufType::u32;
  if constexpr (std::same_as<T, int32_t>) return GgufType::i32;
  if constexpr (std::same_as<T, uint64_t>) return GgufType::u64;
  if constexpr (std::same_as<T, int64_t>) return GgufType::i64;
  if constexpr (std::same_as<T, float>) return GgufType::f32;
  if constexpr (std::same_as<T, double>) return GgufType::f64;
  if constexpr (std::same_as<T, bool>) return GgufType::boolean;
}
template <typename T>
concept GgufNumber = std::is_arithmetic_v<T> && !std::same_as<T, char>;

// Key-value pairs in the order in which they were first set. Keys and texts are checked against the limits of the reader
// (base/limits.h): set throws Error{invalid_argument} naming the key.
class GgufKeyValues {
 public:
  template <GgufNumber T>
  void set(std::string_view key, T value) {
    put(key, gguf_type_of<T>(), std::as_bytes(std::span(&value, 1)));
  }
  void set(std::string_view key, std::string_view text);
  void set(std::string_view key, const char* text) { set(key, std::string_view(text)); }
  void set(std::string_view key, const std::string& text) { set(key, std::string_view(text)); }
  template <GgufNumber T>
    requires(!std::same_as<T, bool>)  // vector<bool> has no elements to view
  void set(std::string_view key, std::span<const T> values) {
    put_array(key, gguf_type_of<T>(), values.size(), std::as_bytes(values));
  }
  template <GgufNumber T>
  void set(std::string_view key, const std::vector<T>& values) {
    set(key, std::span<const T>(values));
  }
  void set(std::string_view key, const std::vector<bool>& values);
  void set(std::string_view key, std::span<const std::string> texts);
  void set(std::string_view key, const std::vector<std::string>& texts) {
    set(key, std::span<const std::string>(texts));
  }
  // A value of another file, as it is. general.alignment is left out: a file has its writer's.
  void set(std::string_view key, const GgufValue& value);
  // A value of any file; general.alignment is left out. An integer becomes u32, or i32 or i64 where it needs to; an array of
  // integers i32 or i64; floats become f32.
  void set(std::string_view key, const MetadataValue& value);

  bool has(std::string_view key) const;
  void erase(std::string_view key);
  size_t size() const { return entries_.size(); }

 private:
  friend std::string gguf_header(const GgufKeyValues& key_values, std::span<const struct GgufTensorInfo>);

  void put(std::string_view key, GgufType type, std::span<const std::byte> bytes);
  void put_array(std::string_view key, GgufType element, size_t count, std::span<const std::byte> bytes);
  void set_integer(std::string_view key, int64_t value);
  void set_integers(std::string_view key, const std::vector<int64_t>& values);
  std::string& payload_of(std::string_view key);

  std::vector<std::pair<std::string, std::string>> entries_;  // key; type and value as they stand in the file
};

struct GgufTensorInfo {
  std::string name;
  compute::DType dtype;
  std::vector<int64_t> shape;  // outermost first
};

// The bytes of a tensor; throws Error{invalid_argument} naming the tensor when it cannot be written (its name, its shape, rows
// that are no whole quant blocks).
int64_t gguf_tensor_bytes(const GgufTensorInfo& tensor);

// All up to the first byte of tensor data. The data of tensor i stands behind the padded data of the tensors before it.
std::string gguf_header(const GgufKeyValues& key_values, std::span<const GgufTensorInfo> tensors);

// Takes the next bytes of a tensor.
using GgufSink = std::function<void(std::span<const std::byte>)>;

// Gives the data of tensor `index` to `sink`, in any number of pieces, together gguf_tensor_bytes() bytes.
using GgufSource = std::function<void(size_t index, const GgufSink& sink)>;

// Writes the whole file; an existing one is replaced. What `source` throws goes through, and no file is left behind. Throws
// Error{resource_exhausted} when the disk is full.
void write_gguf(const std::filesystem::path& path, const GgufKeyValues& key_values,
                std::span<const GgufTensorInfo> tensors, const GgufSource& source);

}  // namespace neutrino::weights
