#include "tokenizer/added_tokens.h"

#include <algorithm>

#include "tokenizer/unicode.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

uint32_t traits_at(std::string_view text, size_t at) {
  return at < text.size() ? char_traits(first_char(text.substr(at)).code) : 0;
}

// Where the character before `at` begins; its bytes are walked back over, four at most.
size_t before(std::string_view text, size_t at) {
  size_t begin = at - 1;
  while (begin > 0 && at - begin < 4 && (static_cast<uint8_t>(text[begin]) & 0xC0) == 0x80) --begin;
  return first_char(text.substr(begin)).length == at - begin ? begin : at - 1;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  if (begin > 0 && (traits_at(text, before(text, begin)) & kJoinedWord)) return false;
  return !(traits_at(text, end) & kJoinedWord);
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens) : tokens_(std::move(tokens)) {
  std::erase_if(tokens_, [](const AddedToken& token) { return token.text.empty(); });
  std::ranges::stable_sort(tokens_, {}, &AddedToken::text);
  for (const AddedToken& token : tokens_) first_bytes_.set(static_cast<uint8_t>(token.text[0]));
}

std::optional<AddedTokens::Match> AddedTokens::find(std::string_view text, Position from,
                                                    Special special) const {
  size_t at = tokens_.empty() ? text.size() : from.token;
  while (at < text.size()) {
    const AddedToken* token = first_bytes_[static_cast<uint8_t>(text[at])] ? longest_at(text, at) : nullptr;
    if (!token) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + token->text.size();
    at = end;  // one that does not count is passed over whole
    if (special == Special::as_text && token->special) continue;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    while (token->left_strip && begin > from.text && (traits_at(text, before(text, begin)) & kSpace))
      begin = before(text, begin);
    while (token->right_strip && (traits_at(text, end) & kSpace)) end += first_char(text.substr(end)).length;
    return Match{begin, end, at, token->id};
  }
  return std::nullopt;
}

std::optional<int32_t> AddedTokens::find_exact(std::string_view text) const {
  const auto found = std::ranges::lower_bound(tokens_, text, {}, &AddedToken::text);
  return found != tokens_.end() && found->text == text ? std::optional(found->id) : std::nullopt;
}

// The sorted list is walked as a trie: [first, last) are the tokens that agree with the text so far; the one that ends here,
// if any, is the first of them.
const AddedToken* AddedTokens::longest_at(std::string_view text, size_t at) const {
  const AddedToken* longest = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  for (size_t depth = 0; first != last; ++depth) {
    while (first != last && first->text.size() == depth) longest = &*first++;
    if (at + depth == text.size()) break;
    const auto byte = static_cast<uint8_t>(text[at + depth]);
    const auto byte_at_depth = [&](const AddedToken& token) {
      return static_cast<uint8_t>(token.text[depth]);
    };
    first = std::partition_point(first, last, [&](const auto& token) { return byte_at_depth(token) < byte; });
    last = std::partition_point(first, last, [&](const auto& token) { return byte_at_depth(token) == byte; });
  }
  return longest;
}

}  // namespace neutrino::tokenizer
