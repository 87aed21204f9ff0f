// For fuzz targets: compiles a grammar over a vocabulary of bytes and takes a walk through what it allows.
#pragma once

#include <bit>
#include <optional>
#include <string>

#include "base/random.h"
#include "base/testing/fuzz.h"
#include "text/constraints.h"

namespace neutrino::text::testing {

inline constexpr int32_t kEnd = 256;

inline const GrammarVocabulary& byte_vocabulary() {
  static const GrammarVocabulary vocabulary([] {
    VocabularyTokens tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.bytes.emplace_back(1, static_cast<char>(byte));
    tokens.bytes.emplace_back("<end>");
    tokens.special.assign(kEnd + 1, false);
    tokens.special[kEnd] = true;
    tokens.end_tokens = {kEnd};
    return tokens;
  }());
  return vocabulary;
}

inline bool allows(const std::vector<uint64_t>& mask, int32_t token) {
  return mask[static_cast<size_t>(token) / 64] >> (token % 64) & 1;
}

// One of the allowed tokens, the end a little more often than any other.
inline int32_t draw(const std::vector<uint64_t>& mask, Random& random) {
  if (allows(mask, kEnd) && random.chance(0.3)) return kEnd;
  int64_t count = 0;
  for (const uint64_t word : mask) count += std::popcount(word);
  int64_t left = random.below(count);
  for (int32_t token = 0;; ++token)
    if (allows(mask, token) && left-- == 0) return token;
}

// nullopt: no grammar, or no end within a hundred bytes; else an answer that the grammar allows.
inline std::optional<std::string> walk(const GrammarSpec& spec, uint64_t seed) {
  std::optional<Grammar> grammar;
  try {
    grammar.emplace(byte_vocabulary(), spec);
  } catch (const Error& error) {
    check(error.code() == ErrorCode::invalid_argument && !error.reason().empty(), error.message());
    return std::nullopt;
  }
  Random random(seed);
  GrammarMatcher matcher(*grammar);
  std::vector<uint64_t> mask(static_cast<size_t>(grammar->mask_words()));
  std::string answer;
  while (answer.size() < 100) {
    if (!matcher.fill_mask(mask)) return std::nullopt;  // a budget, or a dead end
    const int32_t token = draw(mask, random);
    const bool accepting = matcher.is_accepting();
    check(accepting == allows(mask, kEnd) || matcher.failed(),
          "the end is allowed where the answer may not end, or not where it may");
    check(matcher.consume(token) || !matcher.error().empty(), "an allowed token was refused");
    if (token == kEnd) return answer;
    answer += static_cast<char>(token);
  }
  return std::nullopt;
}

}  // namespace neutrino::text::testing
