#include "engine/scheduler.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace neutrino::engine {

using compute::kBlockPositions;

namespace {

// Tokens between two snapshots within what is known of a sequence.
int64_t snapshot_distance(const Sequence& sequence) {
  int64_t distance = kSnapshotBlocks * kBlockPositions;
  while (sequence.known() / distance > kPromptSnapshots) distance *= 2;
  return distance;
}

// The end of the last full block that leaves a token to be computed, so that the same prompt can be resumed there.
int64_t last_boundary(const Sequence& sequence) {
  return (sequence.known() - 1) / kBlockPositions * kBlockPositions;
}

// The next number of computed tokens, beyond those computed now, at which a snapshot is wanted; known() if none is.
int64_t next_snapshot(const Sequence& sequence) {
  const int64_t distance = snapshot_distance(sequence);
  int64_t next = sequence.known();
  for (const int64_t end :
       {last_boundary(sequence), sequence.branch, (sequence.computed / distance + 1) * distance})
    if (end > sequence.computed) next = std::min(next, end);
  return next;
}

// Known, or guessed.
int32_t token_at(const Sequence& sequence, int64_t position) {
  const int64_t behind = position - sequence.known();
  return behind < 0 ? sequence.tokens[static_cast<size_t>(position)]
                    : sequence.draft.tokens[static_cast<size_t>(behind)];
}

bool wants_snapshot(const Sequence& sequence) {
  const int64_t computed = sequence.computed;
  return computed % kBlockPositions == 0 &&
         (computed == sequence.known() || computed == last_boundary(sequence) ||
          computed == sequence.branch || computed % snapshot_distance(sequence) == 0);
}

bool goes_before(const SequencePtr& a, const SequencePtr& b) {
  return a->priority != b->priority ? a->priority < b->priority : a->arrival < b->arrival;
}

void insert_in_order(std::vector<SequencePtr>& sequences, SequencePtr sequence) {
  sequences.insert(std::ranges::upper_bound(sequences, sequence, goes_before), std::move(sequence));
}

}  // namespace

int64_t Scheduler::output_rows_max(const SchedulerOptions& options) {
  return std::min(options.batch_tokens, options.max_sequences + kExtraOutputRows);
}

Scheduler::Scheduler(const SchedulerOptions& options, SequenceBlocks& blocks, StateSlots& states)
    : options_(options), blocks_(blocks), states_(states) {
  const size_t sequences = static_cast<size_t>(options.max_sequences);
  const size_t rows = static_cast<size_t>(options.batch_tokens);
  const size_t outputs = static_cast<size_t>(output_rows_max(options));
  running_.reserve(sequences);
  waiting_.reserve(sequences + static_cast<size_t>(options.queued_requests_max));
  plan_.sequences.reserve(sequences);
  plan_.rows.reserve(sequences);
  plan_.state_copies.reserve(sequences);
  plan_.block_copies.reserve(sequences * compute::kKvGroups);
  snapshots_.reserve(sequences);
  plan_.tokens.reserve(rows);
  plan_.positions.reserve(rows);
  plan_.outputs.reserve(outputs);
  plan_.output_rows.reserve(outputs);
}

void Scheduler::add(SequencePtr sequence) {
  check(waiting_.size() < waiting_.capacity(), "the engine's queue is longer than its limit");
  sequence->arrival = ++arrivals_;
  if (sequence->adapter) sequence->adapter->add_use(1, 0);
  insert_in_order(waiting_, std::move(sequence));
}

const Plan& Scheduler::plan(int64_t now_ns, int64_t prompt_rows) {
  for (Sequence* sequence : plan_.sequences)
    sequence->planned_rows = sequence->draft.planned = sequence->draft.accepted = 0;
  plan_.sequences.clear();
  plan_.state_copies.clear();
  plan_.block_copies.clear();
  budget_ = options_.batch_tokens;
  extra_outputs_ = kExtraOutputRows;
  // By index: scheduling may preempt sequences, which leaves a shorter list.
  for (size_t i = 0; i < running_.size(); ++i)
    if (running_[i]->decodes()) schedule(*running_[i]);
  for (Sequence* sequence : plan_.sequences) add_draft(*sequence);
  const int64_t decoding = options_.batch_tokens - budget_;
  if (decoding > 0) budget_ = std::min(budget_, prompt_rows);
  for (size_t i = 0; i < running_.size(); ++i)
    if (running_[i]->planned_rows == 0) schedule(*running_[i]);
  short_of_blocks_ = false;
  while (Sequence* newcomer = admit_next(now_ns)) schedule(*newcomer);
  if (fill_drafts_) fill_drafts_(plan_.sequences);
  lay_out();
  plan_.prompt_rows = std::max<int64_t>(0, std::ssize(plan_.tokens) - decoding);
  return plan_;
}

// The one that was admitted, if any.
Sequence* Scheduler::admit_next(int64_t now_ns) {
  if (budget_ == 0 || std::ssize(running_) == options_.max_sequences) return nullptr;
  for (size_t place = 0; place < waiting_.size(); ++place)
    if (!waits_for_prefix(*waiting_[place])) return admit(place, now_ns);
  return nullptr;
}

// What both know and the running one has not computed yet, it will have soon.
bool Scheduler::waits_for_prefix(Sequence& sequence) const {
  const bool resumes = !states_.in_use() || states_.keeps_snapshots();
  if (!blocks_.keeps_names() || !resumes) return false;
  const int64_t useful = useful_prefix(sequence);
  for (const SequencePtr& other : running_) {
    const int64_t common = blocks_.in_common(sequence, useful, *other);
    if (common > other->computed && !blocks_.holder(sequence, common / kBlockPositions - 1)) return true;
  }
  return false;
}

Sequence* Scheduler::admit(size_t place, int64_t now_ns) {
  Sequence& sequence = *waiting_[place];
  if (sequence.wants_prompt_logprobs() && extra_outputs_ == 0) return nullptr;
  take_prefix(sequence);
  if (!blocks_.have_room(sequence, running_)) {
    give_back_blocks(sequence);
    short_of_blocks_ = true;
    return nullptr;
  }
  take_tail(sequence);
  if (sequence.queued) {
    sequence.queued = false;
    sequence.scheduled_ns = now_ns;
    sequence.cached_tokens = sequence.computed;
    admitted_tokens_ += sequence.prompt_tokens;
    cached_tokens_ += sequence.computed;
  }
  if (states_.in_use()) start_state(sequence);
  if (sequence.adapter) sequence.adapter->add_use(-1, 1);
  insert_in_order(running_, std::move(waiting_[place]));
  waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(place));
  return &sequence;
}

// At least one token stays to be computed, for its logits; and so do the prompt's tokens whose logits were asked for and not
// given yet.
int64_t Scheduler::useful_prefix(const Sequence& sequence) {
  const int64_t useful = sequence.known() - 1;
  return sequence.wants_prompt_logprobs() ? std::min(useful, sequence.prompt_logprobs_done) : useful;
}

// Takes the cached blocks of the longest known prefix.
void Scheduler::take_prefix(Sequence& sequence) {
  if (!blocks_.keeps_names()) return;
  blocks_.take_prefix(sequence, useful_prefix(sequence));
  if (states_.in_use()) cut_to_snapshot(sequence);
}

// What follows the last cached block, where a running sequence has it: choices of one prompt compute no more than their own tokens.
void Scheduler::take_tail(Sequence& sequence) {
  if (!blocks_.keeps_names() || states_.in_use()) return;
  const int64_t useful = useful_prefix(sequence);
  for (const SequencePtr& other : running_)
    if (blocks_.take_tail(sequence, useful, *other, plan_.block_copies)) return;
}

// Gives back the blocks behind the last one that has a snapshot. Where they ended two sequences part, so perhaps a third one
// will come along: there this one takes a snapshot.
void Scheduler::cut_to_snapshot(Sequence& sequence) {
  const std::vector<int32_t>& blocks = sequence.tables[0].blocks;
  while (!blocks.empty() && !states_.has_snapshot(blocks.back())) blocks_.drop_last(sequence);
}

void Scheduler::start_state(Sequence& sequence) {
  sequence.state_slot = states_.take();
  const std::vector<int32_t>& blocks = sequence.tables[0].blocks;
  const int32_t from = blocks.empty() ? kNoState : states_.use_snapshot(blocks.back());
  plan_.state_copies.push_back({from, sequence.state_slot});
}

void Scheduler::schedule(Sequence& sequence) {
  int64_t rows = std::min(sequence.uncomputed(), budget_);
  if (states_.keeps_snapshots()) rows = std::min(rows, next_snapshot(sequence) - sequence.computed);
  if (sequence.wants_prompt_logprobs()) rows = std::min(rows, extra_outputs_);
  if (rows == 0 || !allocate_blocks(sequence, sequence.computed + rows)) return;
  sequence.planned_rows = rows;
  plan_.sequences.push_back(&sequence);
  budget_ -= rows;
  if (sequence.wants_prompt_logprobs()) extra_outputs_ -= rows;
}

// Rows for guesses, as far as there are blocks: nobody is preempted for them.
void Scheduler::add_draft(Sequence& sequence) {
  const int64_t end = sequence.computed + sequence.planned_rows;
  int64_t rows = std::min({std::ssize(sequence.draft.tokens), budget_, extra_outputs_});
  while (const auto group = blocks_.group_short_of(sequence, end + rows)) {
    if (blocks_.extend(sequence, *group)) continue;
    rows = blocks_.covered(sequence) - end;
    break;
  }
  sequence.draft.planned = rows;
  sequence.planned_rows += rows;
  budget_ -= rows;
  extra_outputs_ -= rows;
}

// False: the sequence itself was the last, and is in the queue now.
bool Scheduler::allocate_blocks(Sequence& sequence, int64_t positions) {
  while (const auto group = blocks_.group_short_of(sequence, positions)) {
    if (const auto block = blocks_.extend(sequence, *group)) {
      states_.drop_snapshot(*block);  // a recurrent model has one group
      continue;
    }
    const bool itself = running_.back().get() == &sequence;
    check(running_.size() > 1, "one sequence alone has run out of KV blocks");
    preempt_last();
    if (itself) return false;
  }
  return true;
}

void Scheduler::preempt_last() {
  SequencePtr victim = std::move(running_.back());
  running_.pop_back();
  if (victim->planned_rows > 0) unplan(*victim);
  give_back_blocks(*victim);
  ++victim->preemptions;
  ++preemptions_;
  if (victim->adapter) victim->adapter->add_use(1, -1);
  insert_in_order(waiting_, std::move(victim));
}

void Scheduler::unplan(Sequence& sequence) {
  budget_ += sequence.planned_rows;
  extra_outputs_ += sequence.wants_prompt_logprobs() ? sequence.planned_rows : sequence.draft.planned;
  sequence.planned_rows = sequence.draft.planned = 0;
  std::erase(plan_.sequences, &sequence);
}

void Scheduler::give_back_blocks(Sequence& sequence) {
  blocks_.give_back(sequence);
  sequence.draft.computed = sequence.draft.named = 0;
  if (sequence.state_slot != kNoState) states_.give_back(std::exchange(sequence.state_slot, kNoState));
}

std::span<const StateCopy> Scheduler::mark_computed() {
  snapshots_.clear();
  for (Sequence* sequence : plan_.sequences) {
    if (sequence->planned_rows == 0) continue;
    const int64_t before = sequence->computed;
    sequence->computed += sequence->planned_rows;
    blocks_.mark_computed(*sequence, before);
    if (states_.keeps_snapshots() && wants_snapshot(*sequence)) take_snapshot(*sequence);
  }
  return snapshots_;
}

// Of what a sequence generates only the last snapshot is kept, unless somebody used an earlier one.
void Scheduler::take_snapshot(Sequence& sequence) {
  const int64_t block = sequence.computed / kBlockPositions - 1;
  const auto holder = blocks_.holder(sequence, block);
  check(holder.has_value(), "a full KV block has no name to tie a snapshot to");
  if (states_.has_snapshot(*holder)) return;
  if (sequence.computed > sequence.prompt_tokens) {
    const int64_t earlier = std::exchange(sequence.latest_snapshot, block);
    if (earlier >= 0)
      if (const auto before = blocks_.holder(sequence, earlier)) states_.drop_unused_snapshot(*before);
  }
  snapshots_.push_back({sequence.state_slot, states_.add_snapshot(*holder)});
}

void Scheduler::remove(Sequence& sequence) {
  give_back_blocks(sequence);
  std::erase(plan_.sequences, &sequence);
  const auto is_it = [&](const SequencePtr& other) { return other.get() == &sequence; };
  if (const auto found = std::ranges::find_if(running_, is_it); found != running_.end()) {
    if (sequence.adapter) sequence.adapter->add_use(0, -1);
    running_.erase(found);  // perhaps the last that holds it
  } else {
    const auto queued = std::ranges::find_if(waiting_, is_it);
    check(queued != waiting_.end(), "removed a sequence that the scheduler does not have");
    if (sequence.adapter) sequence.adapter->add_use(-1, 0);
    waiting_.erase(queued);
  }
}

void Scheduler::lay_out() {
  plan_.tokens.clear();
  plan_.positions.clear();
  plan_.rows.clear();
  plan_.outputs.clear();
  plan_.output_rows.clear();
  for (Sequence* sequence : plan_.sequences) {
    const int64_t first_row = std::ssize(plan_.tokens);
    plan_.rows.push_back({.first_row = first_row,
                          .rows = sequence->planned_rows,
                          .first_position = sequence->computed,
                          .block_table = sequence->tables[0].blocks,
                          .window_table = sequence->tables[1].blocks,
                          .state_slot = sequence->state_slot,
                          .adapter = sequence->adapter ? sequence->adapter->weights.get() : nullptr});
    for (int64_t i = 0; i < sequence->planned_rows; ++i) {
      const int64_t position = sequence->computed + i;
      plan_.tokens.push_back(token_at(*sequence, position));
      plan_.positions.push_back(static_cast<int32_t>(position));
    }
    lay_out_outputs(*sequence, first_row);
  }
}

void Scheduler::lay_out_outputs(Sequence& sequence, int64_t first_row) {
  const int64_t end = sequence.computed + sequence.planned_rows;
  if (sequence.wants_prompt_logprobs()) {
    const int64_t first = std::max(sequence.computed, sequence.prompt_logprobs_done);
    for (int64_t position = first; position < std::min(end, sequence.prompt_tokens - 1); ++position) {
      plan_.outputs.push_back({&sequence, position, false});
      plan_.output_rows.push_back(static_cast<int32_t>(first_row + position - sequence.computed));
    }
  }
  if (end < sequence.known() || !sequence.samples_at_the_end()) return;
  for (int64_t draft = 0, position = sequence.known() - 1; position < end; ++draft, ++position) {
    plan_.outputs.push_back({&sequence, position, true, draft});
    plan_.output_rows.push_back(static_cast<int32_t>(first_row + position - sequence.computed));
  }
}

}  // namespace neutrino::engine
