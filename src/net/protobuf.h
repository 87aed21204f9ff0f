// Writes protocol buffers, as far as OTLP needs them: https://protobuf.dev/programming-guides/encoding.
//
// A message is a string of fields; a field is a tag (number and wire type) and a value. A message inside a message is written
// on its own first, because its length stands before it.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <string_view>

namespace neutrino::net {

class ProtobufWriter {
 public:
  void integer(int field, uint64_t value) {
    tag(field, 0), varint(value);
  }  // int64 (two's complement), enum, bool
  void fixed64(int field, uint64_t value) { tag(field, 1), little_endian(value, 8); }
  void fixed32(int field, uint32_t value) { tag(field, 5), little_endian(value, 4); }
  void real(int field, double value) { fixed64(field, std::bit_cast<uint64_t>(value)); }
  void bytes(int field, std::string_view value) { tag(field, 2), varint(value.size()), text_.append(value); }
  void message(int field, const ProtobufWriter& value) { bytes(field, value.text_); }

  const std::string& text() const { return text_; }

 private:
  void tag(int field, int wire_type) {
    varint(static_cast<uint64_t>(field) << 3 | static_cast<uint64_t>(wire_type));
  }
  void varint(uint64_t value) {
    for (; value >= 0x80; value >>= 7) text_ += static_cast<char>(value | 0x80);
    text_ += static_cast<char>(value);
  }
  void little_endian(uint64_t value, int size) {
    for (int i = 0; i < size; ++i) text_ += static_cast<char>(value >> (8 * i));
  }

  std::string text_;
};

}  // namespace neutrino::net
