// The regular expressions of pre-tokenizers, without a regular-expression engine.
//
// Tokenizer files name expressions from a small family. One is read as its alternatives, tried in order at each place, and an
// alternative is either a row of character sets with counts ("[^\r\n\p{L}]?\p{L}+") or one of a few forms that look ahead or
// back and are written out by hand (pattern_forms.cpp). Neither can backtrack over a run of text, so the time is linear in it,
// whatever it holds. What is not of the family is refused.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/char_set.h"

namespace neutrino::tokenizer {

// The beginning of a text: a match, or characters at which none begins.
struct Stretch {
  size_t length;  // bytes, at least 1
  bool matched;
};

class Pattern {
 public:
  // Throws Error{unimplemented} for an expression that is not of the family.
  static Pattern regex(std::string_view regex);
  static Pattern literal(std::string_view text);  // this text
  static Pattern any_of(uint32_t traits);         // one character with any of these bits of CharTrait
  static Pattern runs_of(uint32_t traits);        // as many of them as there are

  Stretch next(std::string_view text) const;  // of a text that is not empty

  // As it was made, in one spelling for all that mean the same.
  const std::string& source() const { return source_; }

 private:
  struct Item {  // at least `least` and at most `most` characters of a set
    CharSet set;
    size_t least, most;
  };
  // A form written out by hand. Unlike the items it may name a stretch of more than one character as unmatched.
  using Form = Stretch (*)(std::string_view text);
  struct Alternative {
    std::vector<Item> items;
    Form form = nullptr;
  };

  static Alternative parse_alternative(std::string_view text);
  static Form find_form(std::string_view text);
  static size_t match(const std::vector<Item>& items, size_t index, std::string_view text, size_t at);

  std::vector<Alternative> alternatives_;
  std::string literal_;
  std::string source_;
};

}  // namespace neutrino::tokenizer
