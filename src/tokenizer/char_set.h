// A set of characters as a regular expression names one: \p{L}, \s, [^\r\n\p{L}], [a-z].
#pragma once

#include <bitset>
#include <string_view>
#include <utility>
#include <vector>

namespace neutrino::tokenizer {

class CharSet {
 public:
  CharSet() = default;
  static CharSet of_traits(uint32_t traits);  // characters with any of these bits of CharTrait

  // Reads one set from the front of a regular expression and takes it off. Throws Error{unimplemented} for what it does not
  // know: a guess would give wrong tokens without a sign.
  static CharSet parse(std::string_view& regex);

  bool contains(char32_t code) const { return code < 128 ? ascii_[code] : contains_beyond_ascii(code); }
  bool contains_ascii(unsigned char byte) const { return ascii_[byte]; }

 private:
  void add(char32_t first, char32_t last) { ranges_.emplace_back(first, last); }
  void add_escape(std::string_view& regex);
  void read_members(std::string_view& regex);
  void finish();
  bool contains_beyond_ascii(char32_t code) const;

  uint32_t traits_ = 0;
  std::vector<std::pair<char32_t, char32_t>> ranges_;
  bool negated_ = false;
  std::bitset<128> ascii_;
};

}  // namespace neutrino::tokenizer
