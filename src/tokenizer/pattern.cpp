#include "tokenizer/pattern.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

constexpr size_t kNoMatch = std::numeric_limits<size_t>::max();
constexpr size_t kMost = std::numeric_limits<size_t>::max();
constexpr size_t kRepeatMax = 64, kItemsMax = 16, kRegexBytesMax = 8192;

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

// One spelling for expressions that mean the same.
std::string canonical(std::string_view regex) {
  std::string text(regex);
  replace_all(text, "\r", "\\r");
  replace_all(text, "\n", "\\n");
  replace_all(text, "\t", "\\t");
  replace_all(text, "?+", "?");  // "possessive": the same where nothing is given back
  replace_all(text, "++", "+");
  replace_all(text, "'(?i:[sdmt]|ll|ve|re)", "(?i:'s|'t|'re|'ve|'m|'ll|'d)");
  constexpr std::string_view kContractions = "'s|'t|'re|'ve|'m|'ll|'d|";
  if (text.starts_with(kContractions)) {
    text.insert(kContractions.size() - 1, ")");
    text.insert(0, "(?:");
  }
  if (text.starts_with('(') && text.find(')') == text.size() - 1 && !text.starts_with("(?"))
    text = text.substr(1, text.size() - 2);
  return text;
}

// Cuts at each '|' that is not inside brackets.
std::vector<std::string_view> split_alternatives(std::string_view regex) {
  std::vector<std::string_view> parts;
  int depth = 0;
  bool in_set = false;
  size_t begin = 0;
  for (size_t at = 0; at < regex.size(); ++at) {
    const char c = regex[at];
    if (c == '\\')
      ++at;
    else if (in_set)
      in_set = c != ']';
    else if (c == '[')
      in_set = true, at += regex.substr(at + 1).starts_with('^') ? 1 : 0;
    else if (c == '(')
      ++depth;
    else if (c == ')')
      --depth;
    else if (c == '|' && depth == 0)
      parts.push_back(regex.substr(begin, at - begin)), begin = at + 1;
  }
  parts.push_back(regex.substr(begin));
  return parts;
}

Error refuse(std::string_view regex) {
  return make_error(ErrorCode::unimplemented,
                    "the pre-tokenizer's regular expression \"{:.300}\" is not known", regex)
      .with_reason("regular_expression");
}

// Takes "+", "*", "?" or "{m,n}" off the front.
std::pair<size_t, size_t> take_count(std::string_view& regex) {
  const auto number = [&] {
    size_t value = 0;
    const size_t digits = std::min(regex.find_first_not_of("0123456789"), regex.size());
    if (digits == 0 || digits > 3) throw refuse(regex);
    for (const char c : regex.substr(0, digits)) value = value * 10 + static_cast<size_t>(c - '0');
    regex.remove_prefix(digits);
    if (value > kRepeatMax) throw refuse(regex);
    return value;
  };
  const char c = regex.empty() ? 0 : regex.front();
  if (c == '+' || c == '*' || c == '?') {
    regex.remove_prefix(1);
    return {c == '+' ? 1 : 0, c == '?' ? 1 : kMost};
  }
  if (c != '{') return {1, 1};
  regex.remove_prefix(1);
  const size_t least = number();
  size_t most = least;
  if (regex.starts_with(',')) {
    regex.remove_prefix(1);
    most = regex.starts_with('}') ? kMost : number();
  }
  if (!regex.starts_with('}')) throw refuse(regex);
  regex.remove_prefix(1);
  return {least, most};
}

// Bytes of the run of at most `most` characters of the set at `at`; their number goes to `count`.
size_t run_length(const CharSet& set, std::string_view text, size_t at, size_t most, size_t& count) {
  const size_t begin = at;
  for (count = 0; at < text.size() && count < most; ++count) {
    const auto byte = static_cast<unsigned char>(text[at]);
    if (byte < 128) {
      if (!set.contains_ascii(byte)) break;
      ++at;
      continue;
    }
    const Utf8Char c = first_char(text.substr(at));
    if (!set.contains(c.code)) break;
    at += c.length;
  }
  return at - begin;
}

}  // namespace

Pattern Pattern::regex(std::string_view regex) {
  if (regex.empty() || regex.size() > kRegexBytesMax) throw refuse(regex);
  Pattern pattern;
  pattern.source_ = canonical(regex);
  for (const std::string_view part : split_alternatives(pattern.source_))
    pattern.alternatives_.push_back(parse_alternative(part));
  return pattern;
}

Pattern Pattern::literal(std::string_view text) {
  if (text.empty()) throw refuse(text);
  Pattern pattern;
  pattern.literal_ = text;
  pattern.source_ = "\"" + pattern.literal_;
  return pattern;
}

Pattern Pattern::any_of(uint32_t traits) {
  Pattern pattern;
  pattern.alternatives_.push_back({{{CharSet::of_traits(traits), 1, 1}}});
  pattern.source_ = "one of " + std::to_string(traits);
  return pattern;
}

Pattern Pattern::runs_of(uint32_t traits) {
  Pattern pattern;
  pattern.alternatives_.push_back({{{CharSet::of_traits(traits), 1, kMost}}});
  pattern.source_ = "run of " + std::to_string(traits);
  return pattern;
}

// A count that can vary must not need to give back what it took: what follows may be empty, or it is a "?" (both ways of
// which are tried).
Pattern::Alternative Pattern::parse_alternative(std::string_view text) {
  if (const Form form = find_form(text)) return {.form = form};
  Alternative alternative;
  const std::string_view whole = text;
  size_t optional = 0;
  while (!text.empty()) {
    Item item{CharSet::parse(text), 1, 1};
    std::tie(item.least, item.most) = take_count(text);
    alternative.items.push_back(std::move(item));
  }
  bool needed = false;  // something behind must match
  for (auto item = alternative.items.rbegin(); item != alternative.items.rend(); ++item) {
    const bool varies = item->least != item->most;
    if (varies && needed && (item->least != 0 || item->most != 1 || ++optional > 4)) throw refuse(whole);
    needed = needed || item->least > 0;
  }
  if (!needed || alternative.items.size() > kItemsMax) throw refuse(whole);
  return alternative;
}

// End of the match of items[index...] at `at`, or kNoMatch.
size_t Pattern::match(const std::vector<Item>& items, size_t index, std::string_view text, size_t at) {
  for (; index < items.size(); ++index) {
    const Item& item = items[index];
    size_t count = 0;
    const size_t length = run_length(item.set, text, at, item.most, count);
    if (count < item.least) return kNoMatch;
    if (count == 1 && item.least == 0 && item.most == 1) {
      const size_t with = match(items, index + 1, text, at + length);
      if (with != kNoMatch) return with;
      continue;  // without it
    }
    at += length;
  }
  return at;
}

Stretch Pattern::next(std::string_view text) const {
  if (!literal_.empty()) {
    if (text.starts_with(literal_)) return {literal_.size(), true};
    return {std::min(text.find(literal_.front(), 1), text.size()), false};
  }
  size_t unmatched = first_char(text).length;
  for (const Alternative& alternative : alternatives_) {
    if (alternative.form) {
      const Stretch stretch = alternative.form(text);
      if (stretch.matched) return stretch;
      if (alternatives_.size() == 1) unmatched = std::max(unmatched, stretch.length);
      continue;
    }
    const size_t end = match(alternative.items, 0, text, 0);
    if (end != kNoMatch && end > 0) return {end, true};
  }
  return {unmatched, false};
}

}  // namespace neutrino::tokenizer
