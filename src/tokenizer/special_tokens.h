// Finds the tokens that are cut out of a text before anything else looks at it ("<|im_start|>"): at each place the longest.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace neutrino::tokenizer {

class SpecialTokens {
 public:
  struct Match {
    size_t at, length;
    int32_t id;
  };

  SpecialTokens() = default;
  explicit SpecialTokens(
      std::vector<std::pair<std::string_view, int32_t>> tokens);  // the texts must outlive this

  std::optional<Match> find_first(std::string_view text) const;  // leftmost, then longest
  std::optional<int32_t> find(std::string_view text) const;      // exactly this text

 private:
  std::optional<Match> match_at(std::string_view text, size_t at) const;

  std::vector<std::pair<std::string_view, int32_t>> tokens_;  // sorted by text
  std::bitset<256> first_bytes_;
};

}  // namespace neutrino::tokenizer
