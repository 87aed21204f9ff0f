#include "cloud/api/valid_text.h"

#include <algorithm>
#include <cstdint>

namespace neutrino::cloud {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// The length that the first byte of a character announces; 0: it cannot begin one.
size_t announced_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first >= 0xF0 && first <= 0xF4) return 4;
  return 0;
}

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Neither in a longer form than needed, nor half of a surrogate pair, nor beyond the last code point.
bool is_code_point(std::string_view bytes) {
  uint32_t point = static_cast<unsigned char>(bytes[0]) & (0xFF >> (bytes.size() + 1));
  for (const char c : bytes.substr(1)) point = point << 6 | (static_cast<unsigned char>(c) & 0x3F);
  if (bytes.size() == 3) return point >= 0x800 && (point < 0xD800 || point > 0xDFFF);
  return bytes.size() != 4 || (point >= 0x10000 && point <= 0x10FFFF);
}

// The length of the character at the text's begin; 0: there is none.
size_t character_length(std::string_view text) {
  const size_t length = announced_length(static_cast<unsigned char>(text.front()));
  if (length <= 1) return length;
  if (length > text.size()) return 0;
  const std::string_view bytes = text.substr(0, length);
  return std::ranges::all_of(bytes.substr(1), is_continuation) && is_code_point(bytes) ? length : 0;
}

}  // namespace

size_t whole_characters(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const size_t begin = text.size() - back;
    if (is_continuation(text[begin])) continue;
    const bool is_cut = announced_length(static_cast<unsigned char>(text[begin])) > back;
    return is_cut && begin > 0 ? begin : text.size();
  }
  return text.size();
}

std::string valid_text(std::string_view text) {
  std::string valid;
  valid.reserve(text.size());
  while (!text.empty()) {
    const size_t length = character_length(text);
    valid += length == 0 ? kReplacement : text.substr(0, length);
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return valid;
}

}  // namespace neutrino::cloud
