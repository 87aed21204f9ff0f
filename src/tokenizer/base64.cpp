#include "tokenizer/base64.h"

#include <cstdint>

#include "base/error.h"

namespace neutrino::tokenizer {
namespace {

int sextet(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

}  // namespace

std::string decode_base64(std::string_view text) {
  const size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  const std::string_view digits = text.substr(0, text.size() - padding);
  std::string bytes;
  uint32_t held = 0;
  int bits = 0;
  for (const char c : digits) {
    const int value = text.size() % 4 == 0 ? sextet(c) : -1;
    if (value < 0)
      throw make_error(ErrorCode::invalid_argument, "a base64 text holds what is not base64")
          .with_reason("base64");
    held = held << 6 | static_cast<uint32_t>(value);
    if ((bits += 6) < 8) continue;
    bits -= 8;
    bytes += static_cast<char>(held >> bits & 0xFF);
  }
  return bytes;
}

}  // namespace neutrino::tokenizer
