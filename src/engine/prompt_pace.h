// How many rows of prompts a step takes while other sequences decode.
//
// Everybody in a step waits for its slowest part, and a long prompt in one piece would stop every stream for seconds. So the
// rows are chosen by what the last steps took: as many as this machine computes in kPromptStepNs, with this model, at this
// depth of context. Results do not depend on it: a row's bits are the same in any batch.
#pragma once

#include <algorithm>
#include <cstdint>

namespace neutrino::engine {

inline constexpr int64_t kPromptStepNs =
    40'000'000;                                // that a step with prompts and decoding sequences shall take
inline constexpr int64_t kPromptRowsMin = 32;  // fewer would mostly read weights
inline constexpr int64_t kPromptRowsFirst = 128;  // before anything was measured

class PromptPace {
 public:
  explicit PromptPace(int64_t batch_tokens)
      : most_(batch_tokens),
        least_(std::min(kPromptRowsMin, batch_tokens)),
        rows_(std::min(kPromptRowsFirst, batch_tokens)) {}

  int64_t rows() const { return rows_; }

  // A step with this many rows of prompts took so long, its decoding rows included.
  void observe(int64_t prompt_rows, int64_t nanoseconds) {
    if (prompt_rows < least_ || nanoseconds <= 0) return;
    const double fitting = static_cast<double>(prompt_rows) *
                           (static_cast<double>(kPromptStepNs) / static_cast<double>(nanoseconds));
    const int64_t next = fitting < static_cast<double>(most_) ? static_cast<int64_t>(fitting) : most_;
    rows_ = std::clamp(next < rows_ ? next : (rows_ + next + 1) / 2, least_, most_);  // up: half the way
  }

 private:
  int64_t most_, least_, rows_;
};

}  // namespace neutrino::engine
