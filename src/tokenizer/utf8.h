// UTF-8, one character at a time, for bytes that may be anything.
//
// Ill-formed bytes are cut as the WHATWG Encoding Standard cuts them (and Unicode recommends): one "maximal subpart" each,
// the longest prefix of some well-formed character, at least one byte.
#pragma once

#include <cstdint>
#include <string_view>

namespace neutrino::tokenizer {

enum class Utf8 : uint8_t { valid, invalid, incomplete };  // incomplete: the text ends inside a character

struct Utf8Char {
  char32_t code;   // U+FFFD unless valid
  uint8_t length;  // bytes, 1 ... 4
  Utf8 state;
};

// The first character of a text that is not empty.
inline Utf8Char first_char(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, Utf8::valid};
  const uint8_t length = lead >= 0xC2 && lead <= 0xDF   ? 2
                         : (lead & 0xF0) == 0xE0        ? 3
                         : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                        : 0;
  if (length == 0) return {0xFFFD, 1, Utf8::invalid};
  // The second byte's range rules out overlong forms, surrogates and code points beyond U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  char32_t code = lead & (0x7F >> length);
  for (uint8_t i = 1; i < length; ++i) {
    if (i == text.size()) return {0xFFFD, i, Utf8::incomplete};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF))
      return {0xFFFD, i, Utf8::invalid};
    code = code << 6 | (byte(i) & 0x3F);
  }
  return {code, length, Utf8::valid};
}

}  // namespace neutrino::tokenizer
