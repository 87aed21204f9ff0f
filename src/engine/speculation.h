// Speculative decoding: several tokens of a sequence in one step, where they can be guessed.
//
// A decoding sequence's step takes, behind its last known token, rows for guesses at the next ones (its draft). Their logits are
// those that later steps would have had if the guesses are right, and each row is sampled as it would have been: with its
// output position as the counter of the draw, and with the penalties and masks of what came before it. So the token behind
// the last known one is certain; if it is the first guess, the second row is the right one, and so on up to the first
// difference. What comes out has the bits of decoding token by token, greedy or not; only keys and values behind the difference
// are wrong, and these positions are not counted as computed (Scheduler::mark_computed).
//
// A guess costs a row. It is worth it where the tokens that it promises cost less than what the step yields without it: its
// chance, from the sequence's acceptance so far, against the measured cost of a row. Where no guess is worth it the sequence
// pauses and tries again later. Decisions depend on time, results do not.
//
// Guesses come from the sequence itself (prompt_lookup.h) or from a smaller model (draft_model.h).
//
// Owned by the engine thread; nothing allocates after the constructor. Ideas: Leviathan et al. 2023, "Fast Inference from
// Transformers via Speculative Decoding"; prompt_lookup.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "engine/draft_model.h"
#include "engine/prompt_lookup.h"
#include "engine/sequence.h"
#include "engine/step_cost.h"

namespace neutrino::engine {

inline constexpr int64_t kDraftTokensMax = 32, kDraftTokensDefault = 8;
inline constexpr int64_t kModelDraftTokensDefault = 4;  // of a draft model, which takes its time for each

struct SpeculationOptions {
  int64_t draft_tokens = 0;   // of a sequence in a step, at most; 0: no speculation
  bool prompt_lookup = true;  // guesses from the sequence itself, where it has some
  // Otherwise from this model, which has the same tokens; absent: none. Its backend is its own. Both outlive the engine.
  const models::Model* draft_model = nullptr;
  compute::Backend* draft_backend = nullptr;
};

class Speculation {
 public:
  // `limits`: of a draft model.
  Speculation(const SpeculationOptions& options, const DraftModelLimits& limits, const Clock& clock);

  bool enabled() const { return options_.draft_tokens > 0; }
  // Before the sequence is submitted: room for its drafts. Any thread.
  void prepare(Sequence& sequence) const;

  // Before a step is planned: a draft for each decoding sequence, where it is worth its rows.
  void propose(std::span<const SequencePtr> running);
  // This token was sampled behind the accepted part of the draft. Counts it, if it is the draft's next.
  void compare(Sequence& sequence, int32_t token) const;
  // All that was to be compared has been: what it says about later drafts.
  void learn(Sequence& sequence) const;
  // A step of decoding sequences alone took so long.
  void observe(int64_t rows, int64_t nanoseconds);

  DraftModel* model() const { return model_.get(); }  // may be absent

 private:
  friend struct SpeculationFault;  // a test's way to accept one token too many

  // What a step yields and costs, as far as it has been put together.
  struct Yield {
    double tokens = 0, cost = 0;
  };

  int64_t room(const Sequence& sequence) const;
  bool finds_guesses(const Sequence& sequence, int64_t room, LookupMatch& match) const;
  void propose(Sequence& sequence, Yield& step);
  int64_t worthwhile(const Draft& draft, int64_t most, Yield& step) const;

  SpeculationOptions options_;
  std::unique_ptr<DraftModel> model_;
  StepCost cost_;
  bool accepts_too_many_ = false;
};

}  // namespace neutrino::engine
