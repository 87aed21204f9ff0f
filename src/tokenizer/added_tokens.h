// Finds the tokens that are cut out of a text before anything else looks at it ("<|im_start|>"): leftmost, then longest.
#pragma once

#include <bitset>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/pipeline.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

class AddedTokens {
 public:
  struct Match {
    size_t begin, end;  // in the text, with the white space that the token takes along
    size_t token_end;   // without it: tokens in that white space are found, too
    int32_t id;
  };
  // Where the search goes on: plain text begins at `text`, the next token at `token` or behind it.
  struct Position {
    size_t text = 0, token = 0;
  };

  AddedTokens() = default;
  explicit AddedTokens(std::vector<AddedToken> tokens);

  // The next token; what lies before it is plain text. Special tokens count only where they are parsed.
  std::optional<Match> find(std::string_view text, Position from, Special special) const;

  // Calls plain(begin, end) for each stretch of plain text and token(id) for each token, in order.
  template <typename Plain, typename Token>
  void cut(std::string_view text, Special special, const Plain& plain, const Token& token) const {
    for (Position at; at.text < text.size() || at.token < text.size();) {
      const auto match = find(text, at, special);
      const size_t end = match ? match->begin : text.size();
      if (at.text < end) plain(at.text, end);
      if (!match) return;
      token(match->id);
      at = {match->end, match->token_end};
    }
  }
  std::optional<int32_t> find_exact(std::string_view text) const;

 private:
  const AddedToken* longest_at(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;  // sorted by text
  std::bitset<256> first_bytes_;
};

}  // namespace neutrino::tokenizer
