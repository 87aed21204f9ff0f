// For tests: the text of tools/tokenizer_text.py, letter for letter.
#pragma once

#include <string>

#include "tokenizer/test_vocabulary.h"

namespace neutrino::tokenizer {

class HardText {
 public:
  explicit HardText(uint64_t seed) : state_(seed) {}

  std::string make(size_t size) {  // at least so many bytes
    std::string text;
    while (text.size() < size) {
      add_piece(text);
      if (below(5) != 0) text += one_of("space");
    }
    return text;
  }

 private:
  uint64_t below(uint64_t count) {
    state_ = state_ * 6364136223846793005u + 1442695040888963407u;
    return (state_ >> 33) % count;
  }

  std::string_view one_of(std::string_view name) {
    static const json::value parts = read_tokenizer_golden("parts.json");
    const json::array& list = parts.at(name).as_array();
    return list[below(list.size())].as_string();
  }

  void add_word(std::string& text) {
    std::string word(one_of("english"));
    const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; };
    const uint64_t form = below(8);
    if (form == 0) std::ranges::transform(word, word.begin(), upper);
    if (form == 1) word[0] = upper(word[0]);
    text += word;
  }

  void add_piece(std::string& text) {
    const uint64_t kind = below(100);
    if (kind < 46) return add_word(text);
    if (kind < 51) {
      for (uint64_t digits = 1 + below(9); digits > 0; --digits) text += static_cast<char>('0' + below(10));
      return;
    }
    static constexpr std::pair<uint64_t, std::string_view> kKinds[] = {
        {69, "foreign"}, {74, "marked"},  {87, "signs"}, {91, "emoji"},
        {94, "space"},   {96, "control"}, {100, "code"}};
    for (const auto& [limit, name] : kKinds)
      if (kind < limit) {
        text += one_of(name);
        return;
      }
  }

  uint64_t state_;
};

}  // namespace neutrino::tokenizer
