#include "tokenizer/special_tokens.h"

#include <algorithm>

namespace neutrino::tokenizer {

SpecialTokens::SpecialTokens(std::vector<std::pair<std::string_view, int32_t>> tokens)
    : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const auto& token) { return token.first.empty(); });
  std::ranges::sort(tokens_);
  for (const auto& [text, id] : tokens_) first_bytes_.set(static_cast<uint8_t>(text[0]));
}

std::optional<SpecialTokens::Match> SpecialTokens::find_first(std::string_view text) const {
  for (size_t at = 0; at < text.size(); ++at) {
    if (!first_bytes_[static_cast<uint8_t>(text[at])]) continue;
    if (const auto match = match_at(text, at)) return match;
  }
  return std::nullopt;
}

std::optional<int32_t> SpecialTokens::find(std::string_view text) const {
  const auto match = text.empty() ? std::nullopt : match_at(text, 0);
  if (!match || match->length != text.size()) return std::nullopt;
  return match->id;
}

// The sorted list is walked as a trie: [first, last) are the tokens that agree with the text so far; the one that ends here,
// if any, is the first of them.
std::optional<SpecialTokens::Match> SpecialTokens::match_at(std::string_view text, size_t at) const {
  std::optional<Match> longest;
  auto first = tokens_.begin(), last = tokens_.end();
  for (size_t depth = 0; first != last; ++depth) {
    if (first->first.size() == depth) longest = Match{at, depth, (first++)->second};
    if (at + depth == text.size()) break;
    const auto byte = static_cast<uint8_t>(text[at + depth]);
    const auto byte_at_depth = [&](const auto& token) { return static_cast<uint8_t>(token.first[depth]); };
    first = std::partition_point(first, last, [&](const auto& token) { return byte_at_depth(token) < byte; });
    last = std::partition_point(first, last, [&](const auto& token) { return byte_at_depth(token) == byte; });
  }
  return longest;
}

}  // namespace neutrino::tokenizer
