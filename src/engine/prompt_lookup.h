// Draft tokens for nothing: what followed the last time these tokens were seen.
//
// Much of what models write stood in front of them already (code that is edited, documents that are quoted, JSON with the same
// keys, lists), or repeats itself. So the end of prompt and output is looked up earlier in them, and what stood behind that place
// is a guess at what comes next. Idea: Saxena 2023, "Prompt Lookup Decoding".
#pragma once

#include <cstdint>
#include <span>

namespace neutrino::engine {

// Fewer tokens in common are seldom followed by the same; of more than so many nobody asks how many there are.
inline constexpr int64_t kLookupMin = 3, kLookupMax = 12;

struct LookupMatch {
  int64_t length = 0;  // tokens that agree; 0: no place was found
  int64_t next = 0;    // index of what followed them
};

// The earlier place with the longest run that agrees with the end of `tokens`, at least kLookupMin and at most kLookupMax
// long; of equals the latest. One pass backwards.
LookupMatch find_earlier(std::span<const int32_t> tokens);

// What followed there, as many as `draft` has room for. Where `tokens` ends, the copy goes on with its own beginning: so a
// loop of any length goes on, too.
void copy_continuation(std::span<const int32_t> tokens, const LookupMatch& match, std::span<int32_t> draft);

}  // namespace neutrino::engine
