#include "cloud/base64url.h"

#include <cstdint>

namespace neutrino::cloud {
namespace {

constexpr std::string_view kLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

}  // namespace

std::string to_base64url(std::string_view bytes) {
  std::string text;
  uint32_t bits = 0;
  int count = 0;  // bits that wait
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (count += 8; count >= 6; count -= 6) text += kLetters[bits >> (count - 6) & 63];
  }
  if (count > 0) text += kLetters[bits << (6 - count) & 63];
  return text;
}

std::optional<std::string> from_base64url(std::string_view text) {
  std::string bytes;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t letter = kLetters.find(c);
    if (letter == kLetters.npos) return std::nullopt;
    bits = bits << 6 | static_cast<uint32_t>(letter);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    bytes += static_cast<char>(bits >> count & 255);
  }
  const bool whole = count < 6 && (bits & ((1u << count) - 1)) == 0;  // one text for the same bytes
  return whole ? std::optional(bytes) : std::nullopt;
}

}  // namespace neutrino::cloud
