// Who computes what in the next step.
//
// Each step hands out `batch_tokens` rows: first one to every sequence that decodes (more, where a grammar has forced tokens on
// it), then chunks of what prompts still have
// to compute, then newcomers from the queue, lowest priority value first and among equals first come first served; beside
// decoding sequences prompts get only as many rows as the caller says, so that no stream waits for a whole one. What is left then
// may go to drafts (speculation.h). Blocks are allocated as rows need them. When none is left, the last running sequence of that
// order is preempted: it gives its blocks back, goes back to the queue and is computed
// again later; the tokens it has stay known, so its result does not change. What blocks there are and which sequence holds them:
// sequence_blocks.h.
//
// A sequence of a recurrent model also has a state (state_slots.h). It resumes only where a snapshot is, and leaves snapshots
// behind: at the last full block of its prompt, at the place where it left what others had computed, at some blocks of a
// long prompt, and at the last block that it generated. Its rows of a step end where a snapshot is to be taken.
//
// A newcomer waits where a running sequence is computing what both begin with: it shares the blocks then, and computes the rest
// (choices of one prompt compute it once). Others in the queue may overtake it.
//
// A newcomer is admitted only when the blocks for all it knows are there beside those that running prompts still need, so
// that it does not come just to be preempted. Owned by the engine thread; nothing allocates after the constructor.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "compute/batch.h"
#include "engine/sequence.h"
#include "engine/sequence_blocks.h"
#include "engine/state_slots.h"

namespace neutrino::engine {

struct SchedulerOptions {
  int64_t max_sequences = 0;
  int64_t batch_tokens = 0;
  int64_t queued_requests_max = 0;
};

// Rows whose logits a step computes at most, beside one for each sequence: those of prompts that are scored, and of drafts. An
// output row holds a float for each token of the vocabulary.
inline constexpr int64_t kExtraOutputRows = 64;

// Blocks between two snapshots within a prompt; more in one so long that they would be more than kPromptSnapshots.
inline constexpr int64_t kSnapshotBlocks = 16, kPromptSnapshots = 8;

// One row of logits: what the token after `position` may be.
struct PlannedOutput {
  Sequence* sequence = nullptr;
  int64_t position = 0;
  bool samples = false;  // else it only scores the prompt's next token
  int64_t draft = 0;  // tokens of the sequence's draft up to this row: worth sampling if so many were right
};

struct Plan {
  std::vector<Sequence*>
      sequences;  // that take part, in the order of their rows; Sequence::planned_rows each
  std::vector<PlannedOutput> outputs;
  std::vector<int32_t> tokens, positions, output_rows;
  std::vector<compute::SequenceRows> rows;
  std::vector<StateCopy> state_copies;  // before the rows are computed: newcomers' states
  std::vector<BlockCopy> block_copies;  // and the ends of their prompts, computed by others
  int64_t prompt_rows = 0;              // of the rows, those that are not a decoding sequence's

  bool empty() const { return sequences.empty(); }
  compute::Batch batch() const {
    return {.tokens = tokens, .positions = positions, .sequences = rows, .output_rows = output_rows};
  }
};

class Scheduler {
 public:
  Scheduler(const SchedulerOptions& options, SequenceBlocks& blocks, StateSlots& states);

  void add(SequencePtr sequence);  // to the queue, behind all of its priority
  // `prompt_rows`: the most beside decoding sequences. Valid until the next call.
  const Plan& plan(int64_t now_ns, int64_t prompt_rows);
  // Sequence::planned_rows are in the cache: fewer than planned where a draft was wrong, none of a sequence that has failed. Full
  // blocks get their names. Returns the snapshots to take before anything else is computed; valid until the next call.
  std::span<const StateCopy> mark_computed();
  void remove(Sequence& sequence);  // ended: gives its blocks back. May destroy it

  // Called in plan() when all rows are planned: puts tokens into those drafts that have room alone until then.
  void set_fill_drafts(std::function<void(std::span<Sequence* const>)> fill) {
    fill_drafts_ = std::move(fill);
  }

  std::span<const SequencePtr> running() const {
    return running_;
  }  // by priority, then oldest first; waiting, too
  std::span<const SequencePtr> waiting() const { return waiting_; }
  int64_t preemptions() const { return preemptions_; }
  int64_t admitted_tokens() const {
    return admitted_tokens_;
  }  // of prompts that left the queue, the first time
  int64_t cached_tokens() const { return cached_tokens_; }   // of these, found in the prefix cache
  bool short_of_blocks() const { return short_of_blocks_; }  // the last plan: why nobody more was admitted
  static int64_t output_rows_max(const SchedulerOptions& options);

 private:
  Sequence* admit_next(int64_t now_ns);
  Sequence* admit(size_t place, int64_t now_ns);
  static int64_t useful_prefix(const Sequence& sequence);
  bool waits_for_prefix(Sequence& sequence) const;
  void take_prefix(Sequence& sequence);
  void take_tail(Sequence& sequence);
  void cut_to_snapshot(Sequence& sequence);
  void start_state(Sequence& sequence);
  void schedule(Sequence& sequence);
  void add_draft(Sequence& sequence);
  bool allocate_blocks(Sequence& sequence, int64_t positions);
  void preempt_last();
  void unplan(Sequence& sequence);
  void give_back_blocks(Sequence& sequence);
  void take_snapshot(Sequence& sequence);
  void lay_out();
  void lay_out_outputs(Sequence& sequence, int64_t first_row);

  const SchedulerOptions options_;
  SequenceBlocks& blocks_;
  StateSlots& states_;
  std::vector<SequencePtr> waiting_, running_;
  Plan plan_;
  std::function<void(std::span<Sequence* const>)> fill_drafts_;
  std::vector<StateCopy> snapshots_;        // of the last mark_computed()
  int64_t budget_ = 0, extra_outputs_ = 0;  // left in the step being planned
  int64_t preemptions_ = 0, admitted_tokens_ = 0, cached_tokens_ = 0;
  int64_t arrivals_ = 0;
  bool short_of_blocks_ = false;
};

}  // namespace neutrino::engine
