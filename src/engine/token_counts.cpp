#include "engine/token_counts.h"

#include <bit>

namespace neutrino::engine {

TokenCounts::TokenCounts(std::span<const int32_t> prompt, int64_t max_tokens) {
  const size_t most = prompt.size() + static_cast<size_t>(max_tokens);
  entries_.reserve(most);
  slots_.assign(std::bit_ceil(2 * most + 1), -1);
  for (const int32_t token : prompt) entry(token);
}

TokenCounts::Entry& TokenCounts::entry(int32_t token) {
  const size_t mask = slots_.size() - 1;
  size_t slot = (static_cast<uint32_t>(token) * 0x9E3779B1U) & mask;
  while (slots_[slot] >= 0 && entries_[static_cast<size_t>(slots_[slot])].token != token)
    slot = (slot + 1) & mask;
  if (slots_[slot] < 0) {
    slots_[slot] = static_cast<int32_t>(entries_.size());
    entries_.push_back({.token = token});
  }
  return entries_[static_cast<size_t>(slots_[slot])];
}

}  // namespace neutrino::engine
