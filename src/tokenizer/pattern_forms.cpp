// The alternatives of pre-tokenizers' expressions that look ahead or back, each written out: contractions, white space, words
// by upper and lower case.
#include <array>

#include "tokenizer/pattern.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

constexpr Stretch kNone = {0, false};

Stretch matched(size_t length) { return {length, length > 0}; }

struct Peek {
  uint32_t traits = 0;
  size_t length = 0;  // 0: the text is over
};

Peek peek(std::string_view text, size_t at) {
  if (at >= text.size()) return {};
  const Utf8Char c = first_char(text.substr(at));
  return {char_traits(c.code), c.length};
}

// 's 't 're 've 'm 'll 'd, in lower case only.
Stretch contraction(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return kNone;
  if (text[1] == 's' || text[1] == 't' || text[1] == 'm' || text[1] == 'd') return {2, true};
  const std::string_view two = text.substr(1, 2);
  return matched(two == "re" || two == "ve" || two == "ll" ? 3 : 0);
}

// The same in any case. The long s (U+017F) is an s to a regular expression that ignores case.
Stretch contraction_any_case(std::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return kNone;
  const auto lower = [&](size_t i) { return i < text.size() ? static_cast<char>(text[i] | 0x20) : '\0'; };
  const char first = lower(1), second = lower(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return {2, true};
  if (text.substr(1).starts_with("\u017F")) return {3, true};
  return matched((first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                         (first == 'l' && second == 'l')
                     ? 3
                     : 0);
}

// \s*[\r\n]+ : white space up to its last line break.
Stretch line_breaks(std::string_view text) {
  size_t at = 0, last = 0;
  for (Peek next = peek(text, at); next.traits & kSpace; next = peek(text, at)) {
    const bool is_break = text[at] == '\r' || text[at] == '\n';
    at += next.length;
    if (is_break) last = at;
  }
  return matched(last);
}

// \s+(?!\S) : a run of white space without its last character, which goes with the word behind it; all of it where the text
// ends.
Stretch space_before_word(std::string_view text) {
  size_t at = 0, before_last = 0;
  Peek next = peek(text, at);
  for (; next.traits & kSpace; next = peek(text, at)) {
    before_last = at;
    at += next.length;
  }
  return matched(next.length == 0 ? at : before_last);
}

// \s+$ : white space at the end of the text or of a line.
Stretch space_at_end(std::string_view text) {
  size_t at = 0, last = 0;
  Peek next = peek(text, at);
  for (; next.traits & kSpace; next = peek(text, at)) {
    if (text[at] == '\n') last = at;
    at += next.length;
  }
  if (next.length == 0) last = at;
  return last > 0 ? Stretch{last, true} : Stretch{at, false};
}

// Words that begin anew where a lower-case letter is followed by an upper-case one: [upper]*[lower]+ and [upper]+[lower]*,
// where letters without case and marks are both. `kHan` may be left out of either.
constexpr uint32_t kUpperLike = kUpper | kTitle | kModifier | kOtherLetter | kMark;
constexpr uint32_t kLowerLike = kLower | kModifier | kOtherLetter | kMark;

template <uint32_t without>
bool is_any(const Peek& next, uint32_t traits) {
  return (next.traits & traits) != 0 && (next.traits & without) == 0;
}

template <uint32_t without>
size_t run_of(uint32_t traits, std::string_view text, size_t at) {
  for (Peek next = peek(text, at); is_any<without>(next, traits); next = peek(text, at)) at += next.length;
  return at;
}

// [upper]*[lower]+ : where no lower-case letter follows the upper run, it ends with the last character that is both.
template <uint32_t without>
size_t upper_then_lower(std::string_view text, size_t at) {
  size_t both = 0;
  Peek next = peek(text, at);
  for (; is_any<without>(next, kUpperLike); next = peek(text, at)) {
    at += next.length;
    if (next.traits & kLowerLike) both = at;
  }
  return is_any<without>(next, kLowerLike) ? run_of<without>(kLowerLike, text, at) : both;
}

// [upper]+[lower]*
template <uint32_t without>
size_t upper_first(std::string_view text, size_t at) {
  const size_t upper = run_of<without>(kUpperLike, text, at);
  return upper == at ? 0 : run_of<without>(kLowerLike, text, upper);
}

using Word = size_t (*)(std::string_view text, size_t at);  // its end, or 0

// [^\r\n\p{L}\p{N}]?, the word, and a contraction behind it.
template <Word word, Stretch (*suffix)(std::string_view)>
Stretch cased_word(std::string_view text) {
  const Peek first = peek(text, 0);
  const bool prefix = !(first.traits & (kLetter | kNumber)) && text[0] != '\r' && text[0] != '\n';
  size_t end = prefix ? word(text, first.length) : 0;
  if (end == 0) end = word(text, 0);
  if (end == 0) return kNone;
  return {end + suffix(text.substr(end)).length, true};
}

Stretch nothing(std::string_view) { return kNone; }

#define NEUTRINO_UPPER R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}])"
#define NEUTRINO_LOWER R"([\p{Ll}\p{Lm}\p{Lo}\p{M}])"
#define NEUTRINO_UPPER_NOT_HAN R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])"
#define NEUTRINO_LOWER_NOT_HAN R"([\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]])"
#define NEUTRINO_PREFIX R"([^\r\n\p{L}\p{N}]?)"
#define NEUTRINO_ANY_CASE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"

struct NamedForm {
  std::string_view regex;
  Stretch (*form)(std::string_view);
};

constexpr NamedForm kForms[] = {
    {"(?:'s|'t|'re|'ve|'m|'ll|'d)", contraction},
    {NEUTRINO_ANY_CASE, contraction_any_case},
    {R"(\s*[\r\n]+)", line_breaks},
    {R"(\s*[\r\n])", line_breaks},
    {R"(\s+(?!\S))", space_before_word},
    {R"(\s+$)", space_at_end},
    {NEUTRINO_PREFIX NEUTRINO_UPPER "*" NEUTRINO_LOWER "+", cased_word<upper_then_lower<0>, nothing>},
    {NEUTRINO_PREFIX NEUTRINO_UPPER "+" NEUTRINO_LOWER "*", cased_word<upper_first<0>, nothing>},
    {NEUTRINO_PREFIX NEUTRINO_UPPER "*" NEUTRINO_LOWER "+" NEUTRINO_ANY_CASE "?",
     cased_word<upper_then_lower<0>, contraction_any_case>},
    {NEUTRINO_PREFIX NEUTRINO_UPPER "+" NEUTRINO_LOWER "*" NEUTRINO_ANY_CASE "?",
     cased_word<upper_first<0>, contraction_any_case>},
    {NEUTRINO_PREFIX NEUTRINO_UPPER_NOT_HAN "*" NEUTRINO_LOWER_NOT_HAN "+" NEUTRINO_ANY_CASE "?",
     cased_word<upper_then_lower<kHan>, contraction_any_case>},
    {NEUTRINO_PREFIX NEUTRINO_UPPER_NOT_HAN "+" NEUTRINO_LOWER_NOT_HAN "*" NEUTRINO_ANY_CASE "?",
     cased_word<upper_first<kHan>, contraction_any_case>},
};

}  // namespace

Pattern::Form Pattern::find_form(std::string_view text) {
  for (const NamedForm& named : kForms)
    if (named.regex == text) return named.form;
  return nullptr;
}

}  // namespace neutrino::tokenizer
