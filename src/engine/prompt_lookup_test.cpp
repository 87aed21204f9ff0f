#include "engine/prompt_lookup.h"

#include <gtest/gtest.h>

#include <vector>

#include "base/random.h"

namespace neutrino::engine {
namespace {

using Tokens = std::vector<int32_t>;

Tokens draft_of(const Tokens& tokens, size_t size) {
  Tokens draft(size, -1);
  if (const LookupMatch match = find_earlier(tokens); match.length > 0)
    copy_continuation(tokens, match, draft);
  return draft;
}

TEST(PromptLookup, CopiesWhatFollowedTheLongestMatch) {
  struct Case {
    Tokens tokens, draft;
  };
  const Case cases[] = {
      {{}, {-1, -1}},
      {{5}, {-1, -1}},
      {{1, 2, 9, 1, 2}, {-1, -1}},                              // two tokens in common are too few
      {{1, 2, 3, 7, 8, 1, 2, 3}, {7, 8}},                       // three do
      {{1, 2, 3, 7, 7, 1, 2, 3, 8, 8, 1, 2, 3}, {8, 8}},        // the later of two places
      {{0, 1, 2, 3, 7, 7, 5, 1, 2, 3, 8, 0, 1, 2, 3}, {7, 7}},  // the longer match, though it is earlier
      {{4, 4, 4, 4}, {4, 4}},                                   // runs on into its own copy
      {{9, 1, 2, 3, 1, 2, 3}, {1, 2}},
  };
  for (const auto& [tokens, draft] : cases) EXPECT_EQ(draft_of(tokens, 2), draft) << tokens.size();
}

TEST(PromptLookup, ALoopGoesOnForever) {
  EXPECT_EQ(draft_of({1, 2, 3, 1, 2, 3}, 8), (Tokens{1, 2, 3, 1, 2, 3, 1, 2}));
}

// Against the definition, with few enough tokens for all lengths of matches to occur.
TEST(PromptLookup, FindsWhatASearchOfAllPlacesFinds) {
  Random random(7);
  int64_t found = 0, longest = 0;
  for (int round = 0; round < 2000; ++round) {
    Tokens tokens;
    const int64_t size = random.between(0, 90), vocabulary = random.between(1, 6);
    for (int64_t i = 0; i < size; ++i) tokens.push_back(static_cast<int32_t>(random.below(vocabulary)));
    LookupMatch best;
    for (int64_t next = size - 1; next > 0; --next) {
      int64_t length = 0;
      while (length < std::min(kLookupMax, next) &&
             tokens[static_cast<size_t>(next - 1 - length)] == tokens[static_cast<size_t>(size - 1 - length)])
        ++length;
      if (length >= kLookupMin && length > best.length) best = {length, next};
    }
    const LookupMatch match = find_earlier(tokens);
    ASSERT_EQ(match.length, best.length);
    ASSERT_EQ(match.next, best.next);
    found += match.length > 0;
    longest += match.length == kLookupMax;
  }
  EXPECT_GT(found, longest);
  EXPECT_GT(longest, 100);
}

}  // namespace
}  // namespace neutrino::engine
