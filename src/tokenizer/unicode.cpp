#include "tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace neutrino::tokenizer {
namespace {

using enum CharClass;

struct Range {
  char32_t first, last;
  CharClass kind;
};

constexpr Range kRanges[] = {
// sorted, beyond ASCII
#include "tokenizer/unicode_classes.inl"
};

constexpr CharClass ascii_class(char c) {
  if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return letter;
  if (c >= '0' && c <= '9') return number;
  return c == ' ' || (c >= '\t' && c <= '\r') ? space : other;
}

constexpr auto kAscii = [] {
  std::array<CharClass, 128> table{};
  for (int c = 0; c < 128; ++c) table[c] = ascii_class(static_cast<char>(c));
  return table;
}();

}  // namespace

CharClass char_class(char32_t code) {
  if (code < 128) return kAscii[code];
  const Range* range = std::partition_point(std::begin(kRanges), std::end(kRanges),
                                            [&](const Range& r) { return r.last < code; });
  return range != std::end(kRanges) && range->first <= code ? range->kind : other;
}

}  // namespace neutrino::tokenizer
