#include "engine/speculation.h"

#include <algorithm>

namespace neutrino::engine {
namespace {

// While no guess is worth its row: tokens between two trials, doubled each time up to the most.
constexpr int64_t kPauseMin = 16, kPauseMax = 256;

// A draft's acceptance is the mean of what was checked, its first guess counting as so many; of many, the last ones.
constexpr double kFirstWeight = 2, kMemory = 10;

}  // namespace

Speculation::Speculation(const SpeculationOptions& options, const DraftModelLimits& limits,
                         const Clock& clock)
    : options_(options) {
  if (enabled() && options.draft_model != nullptr)
    model_ = std::make_unique<DraftModel>(*options.draft_model, *options.draft_backend, limits, clock);
}

void Speculation::prepare(Sequence& sequence) const {
  const int64_t server = options_.draft_tokens;
  sequence.draft.most = std::min(server, sequence.sampling.draft_tokens.value_or(server));
  sequence.draft.tokens.reserve(static_cast<size_t>(sequence.draft.most));
}

// Tokens that a draft of the sequence may have now. The last token that it may generate needs no row.
int64_t Speculation::room(const Sequence& sequence) const {
  if (sequence.uncomputed() != 1 || sequence.generated() == 0) return 0;
  if (sequence.guide) return 0;  // its mask is for the next token alone, and it has forced tokens
  const int64_t left = sequence.sampling.max_tokens - sequence.generated() - 1;
  return std::min(sequence.draft.most, left);
}

void Speculation::propose(std::span<const SequencePtr> running) {
  if (!enabled()) return;
  if (model_) model_->begin_step();
  int64_t rows = 0;
  for (const SequencePtr& sequence : running) rows += sequence->uncomputed() == 1 ? 1 : 0;
  Yield step{static_cast<double>(rows), cost_.of(rows)};
  for (const SequencePtr& sequence : running) propose(*sequence, step);
}

void Speculation::observe(int64_t rows, int64_t nanoseconds) {
  cost_.observe(rows, nanoseconds - (model_ ? model_->step_ns() : 0));
}

// In the sequence itself, else (no match) from the model.
bool Speculation::finds_guesses(const Sequence& sequence, int64_t room, LookupMatch& match) const {
  if (options_.prompt_lookup) match = find_earlier(sequence.tokens);
  return match.length > 0 || (model_ && sequence.known() + room <= model_->context());
}

void Speculation::propose(Sequence& sequence, Yield& step) {
  Draft& draft = sequence.draft;
  draft.tokens.clear();
  draft.computed = std::min(draft.computed, sequence.computed);  // what was wrong is to be computed again
  const int64_t room = this->room(sequence);
  LookupMatch match;
  if (room <= 0 || !finds_guesses(sequence, room, match)) return;
  draft.from_model = match.length == 0;
  int64_t size = worthwhile(draft, room, step);
  const bool trial = size == 0 && (sequence.generated() >= draft.trial_at || match.length == kLookupMax);
  if (size == 0 && !trial) return;
  if (draft.from_model && !model_->catch_up(sequence)) return;
  if (trial) {
    draft.pause = std::clamp(2 * draft.pause, kPauseMin, kPauseMax);
    draft.trial_at = sequence.generated() + draft.pause;
    size = 1;
  }
  draft.tokens.resize(static_cast<size_t>(size));
  if (!draft.from_model) copy_continuation(sequence.tokens, match, draft.tokens);
}

// How many guesses bring more tokens for their time than the step does without them.
int64_t Speculation::worthwhile(const Draft& draft, int64_t most, Yield& step) const {
  const double row = cost_.row() + (draft.from_model ? model_->guess_ns() : 0);
  double chance = draft.acceptance;
  int64_t size = 0;
  for (; size < most && chance * step.cost > step.tokens * row; ++size, chance *= draft.acceptance) {
    step.tokens += chance;
    step.cost += row;
  }
  return size;
}

void Speculation::compare(Sequence& sequence, int32_t token) const {
  Draft& draft = sequence.draft;
  if (draft.accepted == draft.planned) return;
  const bool right = draft.tokens[static_cast<size_t>(draft.accepted)] == token;
  if (right || accepts_too_many_) ++draft.accepted;
}

void Speculation::learn(Sequence& sequence) const {
  Draft& draft = sequence.draft;
  const bool ended =
      sequence.stream.finished();  // perhaps at an accepted token: what followed was not checked
  const int64_t checked = draft.accepted + (draft.rejected() > 0 && !ended ? 1 : 0);
  for (int64_t i = 0; i < checked; ++i) {
    const double weight = std::min(kMemory, kFirstWeight + static_cast<double>(++draft.checked));
    draft.acceptance += ((i < draft.accepted ? 1.0 : 0.0) - draft.acceptance) / weight;
  }
  if (draft.accepted > 0) draft.pause = draft.trial_at = 0;
}

}  // namespace neutrino::engine
