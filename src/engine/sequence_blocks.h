// The KV blocks of sequences: a table in each group of layers, and the group's pool behind it.
//
// What always holds between two steps, for every running sequence and every group:
//  - the table covers all computed positions; `computed` is the same number for all groups;
//  - its entries are blocks with a reference each, except the first `behind`, which are kNoBlock: nothing sees them any more,
//    because the next row stands at position `computed`. A group without a window has none of these;
//  - so a windowed group holds at most window_blocks(window, rows) blocks of it, `rows` being those of the step;
//  - a block's name is that of all tokens up to its end, in every group; its contents are the keys and values of the
//    group's layers at its positions.
// A prefix can be resumed where every group still has what the next token sees: all blocks before that place, or those of the
// window before it. A sequence that is not running holds nothing.
//
// Owned by the engine thread; nothing allocates after the constructor.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/sha256.h"
#include "engine/block_manager.h"
#include "engine/kv_plan.h"
#include "engine/sequence.h"

namespace neutrino::engine {

// One block's contents become another's.
struct BlockCopy {
  size_t group = 0;
  int32_t from = -1, to = -1;
};

class SequenceBlocks {
 public:
  SequenceBlocks(const KvPlan& plan, int64_t positions, PrefixCache prefix_cache);

  size_t groups() const { return groups_.size(); }
  const BlockManager& pool(size_t group) const { return groups_[group].pool; }
  bool keeps_names() const { return groups_[0].pool.keeps_names(); }
  int64_t evictions() const;

  // Takes the cached blocks of the longest prefix of at most `useful` tokens that can be resumed. The sequence holds nothing
  // yet. Its `branch` becomes the end of what a group that keeps everything has of it.
  void take_prefix(Sequence& sequence, int64_t useful);
  // Of the first `useful` tokens of a sequence that has just taken its prefix, the rest that fills no block: where `other` has them
  // computed, blocks for copies of its last ones are taken, and what is to be copied before the next step is appended.
  bool take_tail(Sequence& sequence, int64_t useful, Sequence& other, std::vector<BlockCopy>& copies);
  // Tokens, of the first `useful` of the newcomer, that the other one knows, too, in whole blocks.
  int64_t in_common(Sequence& newcomer, int64_t useful, Sequence& other);
  // Gives back the last block, which has just been taken. Where there is one group, without a window.
  void drop_last(Sequence& sequence);
  // Are there blocks for all that the newcomer knows, beside those that running sequences will still take?
  bool have_room(const Sequence& newcomer, std::span<const SequencePtr> running) const;
  // A group where the table ends before `positions`.
  std::optional<size_t> group_short_of(const Sequence& sequence, int64_t positions) const;
  // One block more in this group; nullopt: there is none.
  std::optional<int32_t> extend(Sequence& sequence, size_t group);
  // Positions that the tables have blocks for, in every group.
  int64_t covered(const Sequence& sequence) const;
  // `computed` has grown from `before`: the blocks that are full now get their names; those that nothing sees any more go back,
  // and those that hold rejected drafts alone.
  void mark_computed(Sequence& sequence, int64_t before);
  void give_back(Sequence& sequence);

  void forget_cached();  // of all groups
  // The only group's pool, for what moves blocks in and out of it; check(): there is one, without a window.
  BlockManager& only_pool();

  // Who bears the name of the sequence's full block in the first group.
  std::optional<int32_t> holder(Sequence& sequence, int64_t block);

 private:
  struct Group {
    int64_t window = 0;
    BlockManager pool;
  };

  int64_t resumable_blocks(Sequence& sequence, int64_t useful);
  int64_t still_to_take(const Group& group, const BlockTable& table, const Sequence& sequence) const;
  static bool has_tail(const Sequence& newcomer, int64_t whole, int64_t useful, const Sequence& other);
  void release_unseen(Sequence& sequence);
  void release_beyond(Sequence& sequence);

  int64_t batch_tokens_;
  std::vector<Group> groups_;
  Sha256 hash_;
};

}  // namespace neutrino::engine
