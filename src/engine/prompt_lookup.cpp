#include "engine/prompt_lookup.h"

#include <algorithm>

namespace neutrino::engine {
namespace {

constexpr int64_t kRun = 16;  // tokens that are compared at once

// The last index before `end` that holds the token; -1: none.
int64_t find_before(std::span<const int32_t> tokens, int64_t end, int32_t token) {
  for (; end >= kRun; end -= kRun) {
    const int32_t* run = tokens.data() + end - kRun;
    int32_t found = 0;
    for (int64_t i = 0; i < kRun; ++i) found |= run[i] == token ? 1 : 0;
    if (found != 0) break;
  }
  while (--end >= 0 && tokens[static_cast<size_t>(end)] != token) {
  }
  return end;
}

// How many tokens that end at `index` agree with those at the end.
int64_t agreement(std::span<const int32_t> tokens, int64_t index) {
  const int32_t *here = tokens.data() + index, *end = &tokens.back();
  const int64_t most = std::min(kLookupMax, index + 1);
  int64_t length = 1;
  while (length < most && here[-length] == end[-length]) ++length;
  return length;
}

}  // namespace

LookupMatch find_earlier(std::span<const int32_t> tokens) {
  LookupMatch best;
  if (std::ssize(tokens) <= kLookupMin) return best;
  int64_t index = std::ssize(tokens) - 1;
  while (best.length < kLookupMax && (index = find_before(tokens, index, tokens.back())) >= 0) {
    const int64_t length = agreement(tokens, index);
    if (length >= kLookupMin && length > best.length) best = {.length = length, .next = index + 1};
  }
  return best;
}

void copy_continuation(std::span<const int32_t> tokens, const LookupMatch& match, std::span<int32_t> draft) {
  const auto known = tokens.subspan(static_cast<size_t>(match.next));
  for (size_t i = 0; i < draft.size(); ++i) draft[i] = i < known.size() ? known[i] : draft[i - known.size()];
}

}  // namespace neutrino::engine
