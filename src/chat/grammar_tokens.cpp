#include "chat/grammar_tokens.h"

#include <algorithm>

namespace neutrino::chat {
namespace {

using tokenizer::TokenKind;

// A token's text that is no text of its own never comes inside a grammar.
bool has_no_bytes(TokenKind kind) { return kind == TokenKind::unknown || kind == TokenKind::unused; }

}  // namespace

text::VocabularyTokens grammar_tokens(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size,
                                      std::span<const int32_t> end_tokens) {
  text::VocabularyTokens tokens;
  const auto size = static_cast<int32_t>(std::min<int64_t>(vocab_size, tokenizer.size()));
  for (int32_t id = 0; id < size; ++id) {
    const TokenKind kind = tokenizer.kind(id);
    tokens.bytes.emplace_back(has_no_bytes(kind) ? std::string_view() : tokenizer.bytes(id));
    tokens.special.push_back(kind == TokenKind::control);
  }
  tokens.end_tokens.assign(end_tokens.begin(), end_tokens.end());
  std::erase_if(tokens.end_tokens, [size](int32_t token) { return token < 0 || token >= size; });
  if (tokenizer.eos())
    std::ranges::stable_partition(tokens.end_tokens,
                                  [&](int32_t token) { return token == *tokenizer.eos(); });
  tokens.encode = [&tokenizer](std::string_view text) {
    return tokenizer.encode(text, tokenizer::Special::as_text);
  };
  return tokens;
}

}  // namespace neutrino::chat
