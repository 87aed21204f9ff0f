// The tokens of one step, flat: the rows of every sequence that takes part, one sequence after the other.
#pragma once

#include <cstdint>
#include <span>

namespace neutrino::compute {

class Adapter;

// Positions per KV block. Attention sums block by block at absolute positions, so this number is part of the arithmetic.
inline constexpr int64_t kBlockPositions = 32;

// Groups of layers whose keys and values stand in blocks of their own, at most (KvCacheShape).
inline constexpr int64_t kKvGroups = 2;

// In a block table: here no block is any more, or yet. It is never read.
inline constexpr int32_t kNoBlock = -1;

// One sequence's rows in a batch. Row i of it is the token at position first_position + i; it attends to positions
// 0 ... first_position + i, whose keys and values stand in the blocks of its block table.
struct SequenceRows {
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_position = 0;  // = tokens whose keys and values are in the cache already
  // KV block of positions [32 i, 32 i + 32); covers first_position + rows. What no row sees may be kNoBlock.
  std::span<const int32_t> block_table = {};
  std::span<const int32_t> window_table = {};  // the same of the cache's second group, if it has one
  int32_t state_slot = -1;                     // of its recurrent state, for models that have one
  const Adapter* adapter = nullptr;            // of the backend; null: the weights alone
};

struct Batch {
  std::span<const int32_t> tokens = {};     // (rows)
  std::span<const int32_t> positions = {};  // (rows), absolute
  std::span<const SequenceRows> sequences = {};
  std::span<const int32_t> output_rows = {};  // the rows whose logits are wanted, ascending; may be empty
  std::span<const int32_t> segments =
      {};  // (rows), or empty: all 0. BERT's token types: 1 for the second text of a pair
};

}  // namespace neutrino::compute
