#include "tokenizer/pretokenize.h"

#include <cstdint>

#include "base/error.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

using enum CharClass;

enum class Numbers { joined, isolated };  // isolated: the text is first cut at every number character (\p{N})

struct Peek {
  CharClass kind;
  size_t length;
};

// What stands at `at`. With isolated numbers the stretch between two of them is a text of its own, so a number ends it.
// Bytes that are not UTF-8 are `other`, as U+FFFD would be.
template <Numbers numbers>
Peek peek(std::string_view text, size_t at) {
  if (at >= text.size()) return {end, 0};
  const Utf8Char c = first_char(text.substr(at));
  const CharClass kind = char_class(c.code);
  return {numbers == Numbers::isolated && kind == number ? end : kind, c.length};
}

// 's 't 're 've 'm 'll 'd, in lower case only.
size_t contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  if (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd') return 2;
  const std::string_view two = text.substr(1, 2);
  return two == "re" || two == "ve" || two == "ll" ? 3 : 0;
}

// \s+(?!\S)|\s+ : a run of white space without its last character, which goes with the word behind it, unless the text ends
// here or the run is that one character.
template <Numbers numbers>
size_t white_space(std::string_view text) {
  size_t length = 0, before_last = 0;
  Peek next = peek<numbers>(text, 0);
  while (next.kind == space) {
    before_last = length;
    length += next.length;
    next = peek<numbers>(text, length);
  }
  return next.kind == end || before_last == 0 ? length : before_last;
}

// GPT-2: 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
template <Numbers numbers>
size_t gpt2_piece(std::string_view text) {
  if (numbers == Numbers::isolated && peek<Numbers::joined>(text, 0).kind == number)
    return first_char(text).length;
  if (const size_t length = contraction(text)) return length;
  size_t length = text[0] == ' ' ? 1 : 0;
  Peek next = peek<numbers>(text, length);
  const CharClass kind = next.kind;
  if (kind == space || kind == end) return white_space<numbers>(text);
  for (; next.kind == kind; next = peek<numbers>(text, length)) length += next.length;
  return length;
}

struct Entry {
  std::string_view name;
  Splitter splitter;
};

// Names as in GGUF's tokenizer.ggml.pre.
constexpr Entry kSplitters[] = {
    {"gpt-2", gpt2_piece<Numbers::joined>},
    {"smollm", gpt2_piece<Numbers::isolated>},
};

}  // namespace

Splitter find_splitter(std::string_view name) {
  std::string known;
  for (const Entry& entry : kSplitters) {
    if (entry.name == name) return entry.splitter;
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw make_error(ErrorCode::unimplemented, "pre-tokenizer must be one of {}; got \"{:.100}\"", known, name);
}

}  // namespace neutrino::tokenizer
