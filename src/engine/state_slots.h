// The states of recurrent layers: which slot of the cache holds whose.
//
// Beside its KV blocks a sequence of a recurrent model (Mamba2, delta net) has one state, which sums up all of its tokens and
// cannot be cut back to fewer. So a prefix can be resumed only where somebody kept a copy: a snapshot, taken when a sequence
// had computed exactly the tokens up to the end of a full block, and tied to that block. It goes with its block, or when a
// newer one needs its slot, least recently used first.
//
// Slots [0, sequences) are the running sequences', the others the snapshots'. All storage is made in the constructor. A model
// without states has no slots, and nothing here costs anything. Owned by the engine thread. Idea: Pan et al. 2024, "Marconi".
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace neutrino::engine {

// To do in the cache, in this order among others: slot `from` into slot `to`, or zeros where `from` is kNoState.
struct StateCopy {
  int32_t from = -1, to = -1;
};
inline constexpr int32_t kNoState = -1;

struct StateSlotCounts {
  int64_t sequences = 0;  // slots of running sequences in use
  int64_t snapshots = 0;
};

class StateSlots {
 public:
  // `blocks`: of the KV cache, whose indices name the snapshots. No sequences: a model without states.
  StateSlots(int64_t sequences, int64_t snapshots, int64_t blocks);

  bool in_use() const { return sequences_ > 0; }
  bool keeps_snapshots() const { return snapshots_.size() > 0; }

  // ---- of running sequences
  int32_t take();  // check(): no more sequences run than there are slots
  void give_back(int32_t slot);

  // ---- snapshots at the end of blocks
  bool has_snapshot(int32_t block) const { return keeps_snapshots() && slot_of(block) != kNoState; }
  // The slot of the block's snapshot, which becomes the most recently used one. check(): it has one.
  int32_t use_snapshot(int32_t block);
  // A slot for a new snapshot of a block that has none: a free one, else the least recently used one's.
  int32_t add_snapshot(int32_t block);
  void drop_snapshot(int32_t block);  // if it has one: the block has lost its contents
  // The same, unless somebody has resumed from it: a later snapshot of the same sequence takes its place.
  void drop_unused_snapshot(int32_t block);

  StateSlotCounts counts() const;
  int64_t slots() const { return sequences_ + static_cast<int64_t>(snapshots_.size()); }
  int64_t snapshots_taken() const { return taken_; }

  // Recounts everything and check()s it. `named`: does this block still bear a name? For tests; takes time.
  void check_invariants(const std::function<bool(int32_t block)>& named) const;

 private:
  struct Snapshot {
    int32_t block = -1;              // -1: free
    bool used = false;               // somebody has resumed from it
    int32_t older = -1, newer = -1;  // neighbours in the list of those that are not free
  };

  int32_t slot_of(int32_t block) const { return slot_of_block_[static_cast<size_t>(block)]; }
  Snapshot& at(int32_t slot) { return snapshots_[static_cast<size_t>(slot - sequences_)]; }
  const Snapshot& at(int32_t slot) const { return snapshots_[static_cast<size_t>(slot - sequences_)]; }
  void link_newest(int32_t slot);
  void unlink(int32_t slot);

  int64_t sequences_;
  std::vector<int32_t> free_sequences_;  // slots; a stack
  std::vector<int32_t> free_snapshots_;  // slots; a stack
  std::vector<Snapshot> snapshots_;      // of slot `sequences_ + i`
  std::vector<int32_t> slot_of_block_;   // kNoState: it has no snapshot
  int32_t oldest_ = -1, newest_ = -1;    // ends of the list, slots
  int64_t taken_ = 0;
};

}  // namespace neutrino::engine
