// The key-value part of a GGUF file, checked once and read in place.
//
// parse_metadata() walks the section and keeps for each key a view of its value in the mapped file; nothing is copied, so a
// vocabulary of 49k tokens costs a walk over its bytes. Whatever stands here has been checked: types, lengths, counts, no
// duplicate key, no nested array, and the declared type for every key that neutrino reads (gguf_keys.cpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "weights/reader.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

// GGUF's numbers for value types.
enum class GgufType : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
inline constexpr uint32_t kGgufTypes = 13;

std::string_view gguf_type_name(GgufType type);
bool is_integer(GgufType type);

struct GgufValue {
  GgufType type;
  GgufType element = GgufType::u8;  // of an array
  int64_t count = 1;                // elements of an array
  std::span<const std::byte>
      bytes;  // a number's bytes, a string's text, an array's elements as they stand in the file

  std::string type_name() const;  // "f32", "array of string"
  template <typename T>
  T at(int64_t i) const {  // element i of a number or an array of numbers; T is the type it was stored with
    T value;
    std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof value);
    return value;
  }
};

// What a key that neutrino reads must hold. Integers may be of any integer type, as writers differ in it.
enum class KeyKind {
  integer,
  integers_or_integer,
  number,
  boolean,
  text,
  texts,
  floats,
  doubles,
  int32s,
  bytes
};

// nullopt: a key that neutrino does not read.
std::optional<KeyKind> known_key_kind(std::string_view key);
bool holds(const GgufValue& value, KeyKind kind);
std::string_view key_kind_name(KeyKind kind);

class GgufMetadata final : public Metadata {
 public:
  static GgufMetadata parse(Reader& reader, uint64_t count);

  bool has(std::string_view key) const override { return find(key) != nullptr; }
  std::optional<int64_t> integer(std::string_view key) const override;
  std::optional<double> number(std::string_view key) const override;
  std::optional<bool> boolean(std::string_view key) const override;
  std::optional<std::string_view> text(std::string_view key) const override;
  std::optional<std::vector<int64_t>> integers(std::string_view key) const override;
  std::optional<std::vector<double>> numbers(std::string_view key) const override;
  std::vector<std::string> keys() const override;
  MetadataValue value(std::string_view key) const override;

  const GgufValue* find(std::string_view key) const;
  std::optional<std::vector<std::string_view>> texts(std::string_view key) const;
  const std::map<std::string_view, GgufValue>& values() const { return values_; }

 private:
  std::map<std::string_view, GgufValue>
      values_;                          // keys are views of the file; ordered, as a file could choose hashes
  std::vector<std::string_view> keys_;  // in the file's order
};

}  // namespace neutrino::weights
