// A small vocabulary for tests of grammars: each byte is a token, then end tokens, a control token, a word.
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "text/constraints.h"

namespace neutrino::text::testing {

inline constexpr int32_t kEnd = 256, kOtherEnd = 257, kTool = 258, kName = 259;

// Each byte is a token; then two end tokens, a control token, and a word of several bytes.
inline VocabularyTokens byte_tokens() {
  VocabularyTokens tokens;
  for (int32_t byte = 0; byte < 256; ++byte) tokens.bytes.push_back(std::string(1, static_cast<char>(byte)));
  for (const char* name : {"<|end|>", "<|other|>", "<|tool|>"}) tokens.bytes.push_back(name);
  tokens.special.assign(256, false);
  tokens.special.insert(tokens.special.end(), 3, true);
  tokens.bytes.push_back("\"name\"");
  tokens.special.push_back(false);
  tokens.end_tokens = {kEnd, kOtherEnd};
  tokens.encode = [](std::string_view text) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < text.size(); ++i)
      if (text.substr(i).starts_with("\"name\"")) {
        ids.push_back(kName);
        i += 5;
      } else {
        ids.push_back(static_cast<unsigned char>(text[i]));
      }
    return ids;
  };
  return tokens;
}

inline const GrammarVocabulary& vocabulary() {
  static const GrammarVocabulary vocabulary(byte_tokens());
  return vocabulary;
}

inline Grammar compile(GrammarKind kind, std::string text) {
  return Grammar(vocabulary(), {.kind = kind, .text = std::move(text)});
}

inline bool may_come(GrammarMatcher& matcher, int32_t token) {
  std::vector<uint64_t> mask(static_cast<size_t>(vocabulary().mask_words()));
  matcher.fill_mask(mask);
  return mask[static_cast<size_t>(token / 64)] >> (token % 64) & 1;
}

// Byte by byte: may the whole answer be `text`, and end there?
inline bool accepts(const Grammar& grammar, std::string_view text) {
  GrammarMatcher matcher(grammar);
  for (const char c : text) {
    const int32_t token = static_cast<unsigned char>(c);
    if (!matcher.consume(token)) return false;
  }
  return matcher.is_accepting();
}

inline bool accepts(GrammarKind kind, std::string grammar, std::string_view text) {
  return accepts(compile(kind, std::move(grammar)), text);
}

inline std::optional<Error> error_of(GrammarKind kind, std::string text, std::string param = "field") {
  try {
    const Grammar grammar(vocabulary(), {.kind = kind, .text = std::move(text), .param = std::move(param)});
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error;
  }
  return std::nullopt;
}

}  // namespace neutrino::text::testing
