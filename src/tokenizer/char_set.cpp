#include "tokenizer/char_set.h"

#include "base/error.h"
#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

Error unknown(std::string_view what, std::string_view regex) {
  return make_error(ErrorCode::unimplemented,
                    "{} is not known in a tokenizer's regular expression, at \"{:.60}\"", what, regex)
      .with_reason("regular_expression");
}

struct Property {
  std::string_view name;
  uint32_t traits;
};

constexpr Property kProperties[] = {
    {"L", kLetter},      {"Lu", kUpper},       {"Lt", kTitle}, {"Ll", kLower},
    {"Lm", kModifier},   {"Lo", kOtherLetter}, {"M", kMark},   {"N", kNumber},
    {"P", kPunctuation}, {"S", kSymbol},       {"Han", kHan},
};

char32_t take_char(std::string_view& regex) {
  const Utf8Char c = first_char(regex);
  if (c.state != Utf8::valid) throw unknown("a byte that is not UTF-8", "");
  regex.remove_prefix(c.length);
  return c.code;
}

// The character that "\n" stands for, where it is no class.
char32_t escaped_char(char32_t letter) {
  switch (letter) {
    case 'r': return '\r';
    case 'n': return '\n';
    case 't': return '\t';
    case 'f': return '\f';
    case 'v': return '\v';
    default: return letter;
  }
}

bool is_class_letter(char32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

}  // namespace

CharSet CharSet::of_traits(uint32_t traits) {
  CharSet set;
  set.traits_ = traits;
  set.finish();
  return set;
}

CharSet CharSet::parse(std::string_view& regex) {
  CharSet set;
  if (regex.starts_with('['))
    set.read_members(regex);
  else if (regex.starts_with("\\S"))
    regex.remove_prefix(2), set.traits_ = kSpace, set.negated_ = true;
  else if (regex.starts_with('\\'))
    set.add_escape(regex);
  else if (std::string_view("(){}*+?|^$.").find(regex.front()) != std::string_view::npos)
    throw unknown("this", regex);
  else {
    const char32_t code = take_char(regex);
    set.add(code, code);
  }
  set.finish();
  return set;
}

void CharSet::add_escape(std::string_view& regex) {
  const std::string_view whole = regex;
  regex.remove_prefix(1);
  if (regex.empty()) throw unknown("a lone \\", whole);
  const char32_t letter = take_char(regex);
  if (letter == 's') {
    traits_ |= kSpace;
  } else if (letter == 'w') {
    traits_ |= kWord;
  } else if (letter == 'p') {
    const size_t close = regex.find('}');
    if (!regex.starts_with('{') || close == regex.npos) throw unknown("this class", whole);
    const std::string_view name = regex.substr(1, close - 1);
    uint32_t traits = 0;
    for (const Property& property : kProperties)
      if (property.name == name) traits = property.traits;
    if (traits == 0) throw unknown("this class", whole);
    traits_ |= traits;
    regex.remove_prefix(close + 1);
  } else {
    const char32_t code = escaped_char(letter);
    if (code == letter && is_class_letter(letter)) throw unknown("this class", whole);
    add(code, code);
  }
}

// [...]: characters, ranges a-z, escapes. A '-' at either end is itself.
void CharSet::read_members(std::string_view& regex) {
  const std::string_view whole = regex;
  regex.remove_prefix(1);
  if (regex.starts_with('^')) negated_ = true, regex.remove_prefix(1);
  for (bool first = true; !regex.starts_with(']') || first; first = false) {
    if (regex.empty()) throw unknown("a set without an end", whole);
    if (regex.starts_with('[') || regex.starts_with("&&") || regex.starts_with(']'))
      throw unknown("this set", whole);
    char32_t from = 0;
    if (regex.starts_with('\\')) {
      const size_t before = ranges_.size();
      add_escape(regex);
      if (ranges_.size() == before) continue;
      from = ranges_.back().first;
      ranges_.pop_back();
    } else {
      from = take_char(regex);
    }
    char32_t last = from;
    if (regex.size() >= 2 && regex[0] == '-' && regex[1] != ']') {
      regex.remove_prefix(1);
      if (regex.starts_with('\\'))
        regex.remove_prefix(1), last = escaped_char(take_char(regex));
      else
        last = take_char(regex);
      if (last < from) throw unknown("a range that ends before it begins", whole);
    }
    add(from, last);
  }
  regex.remove_prefix(1);
}

void CharSet::finish() {
  for (char32_t code = 0; code < 128; ++code) ascii_[code] = contains_beyond_ascii(code);
}

bool CharSet::contains_beyond_ascii(char32_t code) const {
  bool found = traits_ != 0 && (char_traits(code) & traits_) != 0;
  for (size_t i = 0; !found && i < ranges_.size(); ++i)
    found = ranges_[i].first <= code && code <= ranges_[i].second;
  return found != negated_;
}

}  // namespace neutrino::tokenizer
