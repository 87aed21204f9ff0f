// For tests: the text of tools/tokenizer_text.py, letter for letter.
#pragma once

#include <string>

#include <cstdlib>

#include "base/sha256.h"
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

// Rows of [seed, bytes, number of ids, SHA-256 of the ids]: how many of them the tokenizer meets; the long ones count only where
// long tests are asked for.
struct HashCheck {
  int64_t checked = 0, equal = 0;
};

inline HashCheck check_hashes(const Tokenizer& tokenizer, const json::value& rows) {
  const bool all = std::getenv("NEUTRINO_TEST_LONG") != nullptr;
  HashCheck check;
  for (const json::value& one : rows.as_array()) {
    const json::array& row = one.as_array();
    if (!all && row[1].as_int64() > 1 << 16) continue;
    const std::string text =
        HardText(static_cast<uint64_t>(row[0].as_int64())).make(static_cast<size_t>(row[1].as_int64()));
    const std::vector<int32_t> ids = tokenizer.encode(text, Special::parse);
    const std::string_view bytes(reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t));
    const bool same =
        static_cast<int64_t>(ids.size()) == row[2].as_int64() && to_hex(sha256(bytes)) == row[3].as_string();
    ++check.checked, check.equal += same;
  }
  return check;
}

}  // namespace neutrino::tokenizer
