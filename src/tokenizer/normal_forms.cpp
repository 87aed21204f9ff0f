// Most text is in its normal form already: it is copied up to a character that may have to change, and only the stretch around
// that one is decomposed, ordered and composed again (Unicode Standard Annex 15).
#include "tokenizer/normal_forms.h"

#include <algorithm>
#include <cstdint>
#include <unordered_map>
#include <vector>

#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

struct Mapping {
  char32_t code;
  const char* text;
};
struct Composition {
  char32_t first, second, code;
};
struct MarkRange {
  char32_t first, last;
  uint8_t combining_class;
};

constexpr Mapping kCanonical[] = {
#include "tokenizer/unicode_canonical.inl"
};
constexpr Mapping kCompatible[] = {
#include "tokenizer/unicode_compatible.inl"
};
constexpr Composition kCompositions[] = {
#include "tokenizer/unicode_compositions.inl"
};
constexpr MarkRange kMarks[] = {
#include "tokenizer/unicode_combining.inl"
};
constexpr Mapping kLowerCase[] = {
#include "tokenizer/unicode_lower.inl"
};

// Korean syllables are composed by arithmetic (the Unicode Standard, section 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28, kSyllableCount = 11172;

bool is_syllable(char32_t code) { return code >= kSyllables && code < kSyllables + kSyllableCount; }

uint64_t pair_of(char32_t first, char32_t second) { return uint64_t{first} << 32 | second; }

enum Active : uint8_t {
  kComposed = 1,
  kDecomposed = 2,
  kCompatibility = 4
};  // may change in NFC, in NFD, in NFKx

class Forms {
 public:
  Forms() : active_(0x110000, 0), combining_(0x110000, 0) {
    for (const Mapping& mapping : kCanonical)
      canonical_.emplace(mapping.code, mapping.text), active_[mapping.code] |= kComposed | kDecomposed;
    for (const Mapping& mapping : kCompatible)
      compatible_.emplace(mapping.code, mapping.text), active_[mapping.code] |= kCompatibility;
    for (const Composition& c : kCompositions) active_[c.code] &= static_cast<uint8_t>(~kComposed);
    for (const Composition& c : kCompositions)
      compositions_.emplace(pair_of(c.first, c.second), c.code), active_[c.second] |= kComposed;
    for (const MarkRange& range : kMarks)
      for (char32_t code = range.first; code <= range.last; ++code)
        combining_[code] = range.combining_class, active_[code] |= kComposed | kDecomposed;
    for (char32_t code = kSyllables; code < kSyllables + kSyllableCount; ++code) active_[code] |= kDecomposed;
    for (char32_t i = 0; i < kVowelCount; ++i) active_[kVowels + i] |= kComposed;
    for (char32_t i = 1; i < kTailCount; ++i) active_[kTails + i] |= kComposed;
  }

  uint8_t active(char32_t code) const { return active_[code]; }
  uint8_t combining_class(char32_t code) const { return combining_[code]; }

  void decompose(char32_t code, bool compatibility, std::vector<char32_t>& out) const {
    if (is_syllable(code)) return decompose_syllable(code, out);
    const char* text = compatibility ? find(compatible_, code) : nullptr;
    if (!text) text = find(canonical_, code);
    if (!text) return out.push_back(code);
    for (std::string_view rest = text; !rest.empty();) {
      const Utf8Char c = first_char(rest);
      out.push_back(c.code);
      rest.remove_prefix(c.length);
    }
  }

  char32_t compose(char32_t first, char32_t second) const {  // 0: the two do not compose
    if (first >= kLeads && first < kLeads + kLeadCount && second >= kVowels && second < kVowels + kVowelCount)
      return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
    if (is_syllable(first) && (first - kSyllables) % kTailCount == 0 && second > kTails &&
        second < kTails + kTailCount)
      return first + (second - kTails);
    const auto found = compositions_.find(pair_of(first, second));
    return found == compositions_.end() ? 0 : found->second;
  }

 private:
  static const char* find(const std::unordered_map<char32_t, const char*>& map, char32_t code) {
    const auto found = map.find(code);
    return found == map.end() ? nullptr : found->second;
  }

  static void decompose_syllable(char32_t code, std::vector<char32_t>& out) {
    const char32_t index = code - kSyllables, tail = index % kTailCount;
    out.push_back(kLeads + index / (kVowelCount * kTailCount));
    out.push_back(kVowels + index % (kVowelCount * kTailCount) / kTailCount);
    if (tail) out.push_back(kTails + tail);
  }

  std::vector<uint8_t> active_, combining_;  // by code point
  std::unordered_map<char32_t, const char*> canonical_, compatible_;
  std::unordered_map<uint64_t, char32_t> compositions_;
};

const Forms& forms() {
  static const Forms forms;
  return forms;
}

// Puts each run of marks into the order of their classes.
void order_marks(std::vector<char32_t>& codes) {
  const auto is_mark = [](char32_t code) { return forms().combining_class(code) != 0; };
  for (auto begin = codes.begin(); begin != codes.end();) {
    begin = std::find_if(begin, codes.end(), is_mark);
    const auto end = std::find_if_not(begin, codes.end(), is_mark);
    std::ranges::stable_sort(begin, end, {}, [](char32_t code) { return forms().combining_class(code); });
    begin = end;
  }
}

// Joins each character with the last one of class 0 before it, unless something of its own class or above stands between.
void compose_all(std::vector<char32_t>& codes) {
  size_t count = 0, starter = codes.size();
  int last_class = -1;  // of the characters kept since the starter; -1: none
  for (const char32_t code : codes) {
    const int own = forms().combining_class(code);
    if (starter < count && last_class < (own == 0 ? 0 : own)) {
      if (const char32_t whole = forms().compose(codes[starter], code)) {
        codes[starter] = whole;
        continue;
      }
    }
    if (own == 0)
      starter = count, last_class = -1;
    else
      last_class = own;
    codes[count++] = code;
  }
  codes.resize(count);
}

// `stretch` holds whole characters, valid UTF-8.
void append_stretch(std::string_view stretch, NormalForm form, std::string& out) {
  std::vector<char32_t> codes;
  while (!stretch.empty()) {
    const Utf8Char c = first_char(stretch);
    forms().decompose(c.code, form == NormalForm::nfkc || form == NormalForm::nfkd, codes);
    stretch.remove_prefix(c.length);
  }
  order_marks(codes);
  if (form == NormalForm::nfc || form == NormalForm::nfkc) compose_all(codes);
  for (const char32_t code : codes) append_utf8_char(code, out);
}

uint8_t may_change_in(NormalForm form) {
  switch (form) {
    case NormalForm::nfc: return kComposed;
    case NormalForm::nfd: return kDecomposed;
    case NormalForm::nfkc: return kComposed | kCompatibility;
    case NormalForm::nfkd: return kDecomposed | kCompatibility;
  }
  return 0;
}

}  // namespace

void append_utf8_char(char32_t code, std::string& out) {
  const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xC0 | code >> 6);
    tail(0);
  } else if (code < 0x10000) {
    out += static_cast<char>(0xE0 | code >> 12);
    tail(6), tail(0);
  } else {
    out += static_cast<char>(0xF0 | code >> 18);
    tail(12), tail(6), tail(0);
  }
}

std::string normal_form(std::string_view text, NormalForm form) {
  const uint8_t mask = may_change_in(form);
  std::string out;
  out.reserve(text.size());
  size_t copied = 0, previous = 0, at = 0;  // previous: where the character before `at` begins
  while (at < text.size()) {
    const Utf8Char c = static_cast<uint8_t>(text[at]) < 0x80
                           ? Utf8Char{static_cast<char32_t>(text[at]), 1, Utf8::valid}
                           : first_char(text.substr(at));
    if (c.code < 0x80 || c.state != Utf8::valid || !(forms().active(c.code) & mask)) {
      previous = c.state == Utf8::valid ? at : at + c.length;
      at += c.length;
      continue;
    }
    const size_t begin = std::max(previous, copied);
    out.append(text.substr(copied, begin - copied));
    for (at += c.length; at < text.size(); at += first_char(text.substr(at)).length) {
      const Utf8Char next = first_char(text.substr(at));
      if (next.state != Utf8::valid || !(forms().active(next.code) & mask)) break;
    }
    append_stretch(text.substr(begin, at - begin), form, out);
    copied = previous = at;
  }
  out.append(text.substr(copied));
  return out;
}

std::string lower_case(std::string_view text) {
  static const auto lower = [] {
    std::unordered_map<char32_t, std::string_view> map;
    for (const Mapping& mapping : kLowerCase) map.emplace(mapping.code, mapping.text);
    return map;
  }();
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const char byte = text[at];
    if (static_cast<uint8_t>(byte) < 0x80) {
      out += byte >= 'A' && byte <= 'Z' ? static_cast<char>(byte | 0x20) : byte;
      ++at;
      continue;
    }
    const Utf8Char c = first_char(text.substr(at));
    const auto found = c.state == Utf8::valid ? lower.find(c.code) : lower.end();
    out.append(found == lower.end() ? text.substr(at, c.length) : found->second);
    at += c.length;
  }
  return out;
}

}  // namespace neutrino::tokenizer
