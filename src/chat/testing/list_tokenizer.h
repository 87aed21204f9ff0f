// A tokenizer for tests whose vocabulary is a list: id i is the i-th string, and "<|...|>" are control tokens.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/tokenizer.h"

namespace neutrino::chat::testing {

class ListTokenizer final : public tokenizer::Tokenizer {
 public:
  explicit ListTokenizer(std::vector<std::string> tokens) : tokens_(std::move(tokens)) {}

  // Greedily the longest token that fits; a text that no tokens make up is cut short.
  std::vector<int32_t> encode(std::string_view text, tokenizer::Special) const override {
    std::vector<int32_t> ids;
    while (!text.empty()) {
      int32_t best = -1;
      for (int32_t id = 0; id < size(); ++id)
        if (text.starts_with(bytes(id)) && (best < 0 || bytes(id).size() > bytes(best).size())) best = id;
      if (best < 0) break;
      ids.push_back(best);
      text.remove_prefix(bytes(best).size());
    }
    return ids;
  }
  std::string_view bytes(int32_t id) const override { return tokens_[static_cast<size_t>(id)]; }
  int32_t size() const override { return static_cast<int32_t>(tokens_.size()); }
  tokenizer::TokenKind kind(int32_t id) const override {
    return bytes(id).starts_with("<|") ? tokenizer::TokenKind::control : tokenizer::TokenKind::normal;
  }
  std::optional<int32_t> find(std::string_view text) const override {
    for (int32_t id = 0; id < size(); ++id)
      if (bytes(id) == text) return id;
    return std::nullopt;
  }

 private:
  std::vector<std::string> tokens_;
};

}  // namespace neutrino::chat::testing
