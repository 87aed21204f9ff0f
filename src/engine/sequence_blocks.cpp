#include "engine/sequence_blocks.h"

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::engine {

using compute::kBlockPositions, compute::kKvGroups, compute::kNoBlock;

SequenceBlocks::SequenceBlocks(const KvPlan& plan, int64_t positions, PrefixCache prefix_cache)
    : batch_tokens_(plan.use().batch_tokens) {
  for (size_t i = 0; i < plan.groups().size(); ++i)
    groups_.push_back({plan.groups()[i].window, BlockManager(plan.blocks(i, positions), prefix_cache)});
}

int64_t SequenceBlocks::evictions() const {
  int64_t sum = 0;
  for (const Group& group : groups_) sum += group.pool.evictions();
  return sum;
}

void SequenceBlocks::take_prefix(Sequence& sequence, int64_t useful) {
  const int64_t blocks = resumable_blocks(sequence, useful);
  sequence.computed = blocks * kBlockPositions;
  for (size_t i = 0; i < groups_.size(); ++i) {
    BlockTable& table = sequence.tables[i];
    table.behind = first_block_seen(groups_[i].window, sequence.computed);
    table.blocks.assign(static_cast<size_t>(table.behind), kNoBlock);
    for (int64_t block = table.behind; block < blocks; ++block)
      table.blocks.push_back(*groups_[i].pool.find(sequence.block_name(block, hash_)));
  }
}

// The longest prefix where each group has an unbroken run of blocks up to its end, as long as the next token sees back.
int64_t SequenceBlocks::resumable_blocks(Sequence& sequence, int64_t useful) {
  std::array<int64_t, kKvGroups> run{};
  int64_t resumable = 0;
  sequence.branch = 0;
  for (int64_t end = 1; end * kBlockPositions <= useful; ++end) {
    const Sha256Digest& name = sequence.block_name(end - 1, hash_);
    bool agreed = true;
    for (size_t i = 0; i < groups_.size(); ++i) {
      const int64_t window = groups_[i].window;
      run[i] = groups_[i].pool.holder(name) ? run[i] + 1 : 0;
      agreed = agreed && run[i] >= end - first_block_seen(window, end * kBlockPositions);
      if (run[i] == 0 && window == 0) return resumable;
    }
    if (groups_[0].window == 0) sequence.branch = end * kBlockPositions;
    if (agreed) resumable = end;
  }
  return resumable;
}

// Names tell all tokens up to the end of their block, so those in common are found by bisection.
int64_t SequenceBlocks::in_common(Sequence& newcomer, int64_t useful, Sequence& other) {
  int64_t same = 0, different = std::min(useful, other.known()) / kBlockPositions + 1;
  while (different - same > 1) {
    const int64_t middle = (same + different) / 2;
    const bool equal = newcomer.block_name(middle - 1, hash_) == other.block_name(middle - 1, hash_);
    (equal ? same : different) = middle;
  }
  return same * kBlockPositions;
}

// Do both know the same tokens from the end of their common blocks on?
bool SequenceBlocks::has_tail(const Sequence& newcomer, int64_t whole, int64_t useful,
                              const Sequence& other) {
  const auto at = [](const Sequence& sequence, int64_t position) {
    return sequence.tokens.begin() + position;
  };
  return useful - whole < kBlockPositions && other.known() >= useful && newcomer.root == other.root &&
         std::equal(at(newcomer, whole), at(newcomer, useful), at(other, whole));
}

bool SequenceBlocks::take_tail(Sequence& sequence, int64_t useful, Sequence& other,
                               std::vector<BlockCopy>& copies) {
  const int64_t whole = sequence.computed, block = whole / kBlockPositions;
  if (useful <= whole || other.computed < useful || !has_tail(sequence, whole, useful, other)) return false;
  if (block > 0 && sequence.block_name(block - 1, hash_) != other.block_name(block - 1, hash_)) return false;
  for (size_t i = 0; i < groups_.size(); ++i) {
    const std::vector<int32_t>& theirs = other.tables[i].blocks;
    if (std::ssize(theirs) <= block || theirs[static_cast<size_t>(block)] == kNoBlock ||
        groups_[i].pool.available() == 0)
      return false;
  }
  for (size_t i = 0; i < groups_.size(); ++i)
    copies.push_back({i, other.tables[i].blocks[static_cast<size_t>(block)], *extend(sequence, i)});
  sequence.computed = useful;
  release_unseen(sequence);
  return true;
}

void SequenceBlocks::forget_cached() {
  for (Group& group : groups_) group.pool.forget_cached();
}

BlockManager& SequenceBlocks::only_pool() {
  check(groups_.size() == 1 && groups_[0].window == 0, "blocks of windows are not moved");
  return groups_[0].pool;
}

void SequenceBlocks::drop_last(Sequence& sequence) {
  check(groups_.size() == 1 && groups_[0].window == 0, "dropped a block of a sequence with a window");
  std::vector<int32_t>& blocks = sequence.tables[0].blocks;
  groups_[0].pool.release(blocks.back());
  blocks.pop_back();
  sequence.computed -= kBlockPositions;
}

bool SequenceBlocks::have_room(const Sequence& newcomer, std::span<const SequencePtr> running) const {
  for (size_t i = 0; i < groups_.size(); ++i) {
    int64_t needed = still_to_take(groups_[i], newcomer.tables[i], newcomer);
    for (const SequencePtr& sequence : running)
      needed += still_to_take(groups_[i], sequence->tables[i], *sequence);
    if (needed > groups_[i].pool.available()) return false;
  }
  return true;
}

// Until all that is known is computed: more blocks than the table holds now, at most.
int64_t SequenceBlocks::still_to_take(const Group& group, const BlockTable& table,
                                      const Sequence& sequence) const {
  int64_t most = ceil_div(sequence.known(), kBlockPositions) - table.behind;
  if (group.window > 0)
    most = std::min(most, window_blocks(group.window, std::min(batch_tokens_, sequence.uncomputed())));
  return std::max<int64_t>(0, most - table.held());
}

std::optional<size_t> SequenceBlocks::group_short_of(const Sequence& sequence, int64_t positions) const {
  for (size_t i = 0; i < groups_.size(); ++i)
    if (std::ssize(sequence.tables[i].blocks) * kBlockPositions < positions) return i;
  return std::nullopt;
}

int64_t SequenceBlocks::covered(const Sequence& sequence) const {
  int64_t blocks = std::ssize(sequence.tables[0].blocks);
  for (size_t i = 1; i < groups_.size(); ++i)
    blocks = std::min<int64_t>(blocks, std::ssize(sequence.tables[i].blocks));
  return blocks * kBlockPositions;
}

std::optional<int32_t> SequenceBlocks::extend(Sequence& sequence, size_t group) {
  const auto block = groups_[group].pool.allocate();
  if (block) sequence.tables[group].blocks.push_back(*block);
  return block;
}

void SequenceBlocks::mark_computed(Sequence& sequence, int64_t before) {
  if (keeps_names())
    for (int64_t block = before / kBlockPositions; block < sequence.computed / kBlockPositions; ++block)
      for (size_t i = 0; i < groups_.size(); ++i)
        groups_[i].pool.set_name(sequence.tables[i].blocks[static_cast<size_t>(block)],
                                 sequence.block_name(block, hash_));
  release_unseen(sequence);
  release_beyond(sequence);
}

void SequenceBlocks::release_beyond(Sequence& sequence) {
  const size_t needed = static_cast<size_t>(ceil_div(sequence.computed, kBlockPositions));
  for (size_t i = 0; i < groups_.size(); ++i) {
    std::vector<int32_t>& blocks = sequence.tables[i].blocks;
    for (; blocks.size() > needed; blocks.pop_back()) groups_[i].pool.release(blocks.back());
  }
}

void SequenceBlocks::release_unseen(Sequence& sequence) {
  for (size_t i = 0; i < groups_.size(); ++i) {
    BlockTable& table = sequence.tables[i];
    const int64_t first = first_block_seen(groups_[i].window, sequence.computed);
    for (; table.behind < first; ++table.behind) {
      int32_t& block = table.blocks[static_cast<size_t>(table.behind)];
      groups_[i].pool.release(block);
      block = kNoBlock;
    }
  }
}

// The last block first, so that the beginning of a prefix, which more sequences share, is evicted last.
void SequenceBlocks::give_back(Sequence& sequence) {
  for (size_t i = 0; i < groups_.size(); ++i) {
    BlockTable& table = sequence.tables[i];
    for (; table.held() > 0; table.blocks.pop_back()) groups_[i].pool.release(table.blocks.back());
    table.blocks.clear();
    table.behind = 0;
  }
  sequence.computed = 0;
}

std::optional<int32_t> SequenceBlocks::holder(Sequence& sequence, int64_t block) {
  return groups_[0].pool.holder(sequence.block_name(block, hash_));
}

}  // namespace neutrino::engine
