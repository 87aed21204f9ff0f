// Reads little-endian values from bytes that nobody has checked.
//
// Every read says what it reads, takes no more than is left, and throws otherwise: nothing above this file computes a pointer
// from a number that a file gave. Refusals carry a stable word (Error::reason) that names the check, so that tests can count
// which check refused what.
#pragma once

#include <fmt/format.h>

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace neutrino::weights {

static_assert(std::endian::native == std::endian::little,
              "weight files are little-endian and are read in place");

template <typename... Args>
Error refuse(std::string_view check_name, fmt::format_string<Args...> format, Args&&... args) {
  return make_error(ErrorCode::invalid_argument, format, std::forward<Args>(args)...)
      .with_reason(std::string(check_name));
}

// Text from a file, fit for a message or a terminal: no control or non-ASCII bytes, at most so many characters.
std::string printable(std::string_view text, size_t characters_max);
std::string in_quotes(std::string_view text);  // the same in quotes, at most 80 characters

std::string shape_text(std::span<const int64_t> shape);  // "(49152, 576)"

// Keys and tensor names: printable ASCII, no space, not empty.
bool is_name(std::string_view text);

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }
  std::span<const std::byte> rest() const { return bytes_.subspan(offset_); }

  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    if (count > remaining())
      throw refuse("truncated", "the file ends in a {} at byte {}: {} bytes expected, {} left", what, offset_,
                   count, remaining());
    const auto taken = bytes_.subspan(offset_, count);
    offset_ += count;
    return taken;
  }

  template <typename T>
  T number(std::string_view what) {
    T value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  // A length in 8 bytes, then so many bytes. The view lives as long as the bytes.
  std::string_view string(uint64_t limit, std::string_view what) {
    const auto length = number<uint64_t>(what);
    if (length > limit)
      throw refuse("string_length", "a {} at byte {} must be at most {} bytes long, got {}", what,
                   offset_ - 8, limit, length);
    const auto text = take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

 private:
  std::span<const std::byte> bytes_;
  uint64_t offset_ = 0;
};

}  // namespace neutrino::weights
