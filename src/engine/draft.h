// A sequence's draft: guesses at its next tokens, which one step checks together, and how good they have been so far.
#pragma once

#include <cstdint>
#include <vector>

namespace neutrino::engine {

struct Draft {
  std::vector<int32_t>
      tokens;        // after the last known one, in the step being made; reserved when the sequence is made
  int64_t most = 0;  // that there may ever be
  int64_t planned = 0;   // of them, those with a row in the step
  int64_t accepted = 0;  // of these, those that were sampled, too, one after the other

  // Where a draft model guesses (draft_model.h).
  bool from_model = false;  // this draft does come from it
  int64_t computed = 0;     // tokens of the sequence that it has computed
  int64_t named = 0;        // blocks of these that it has remembered

  double acceptance = 0.5;  // running mean: of the tokens that were checked, the share that was right
  int64_t checked = 0;      // such tokens
  int64_t pause = 0;        // tokens to be generated between two trials, while the acceptance is too low
  int64_t trial_at = 0;     // generated tokens

  int64_t rejected() const { return planned - accepted; }
};

}  // namespace neutrino::engine
