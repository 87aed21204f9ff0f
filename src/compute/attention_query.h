// Attention of one query over a paged cache: the scalar definition, with everything that AttentionShape can ask for.
#pragma once

#include <cstdint>
#include <span>

#include "compute/backend.h"
#include "compute/paged_kv_cache.h"

namespace neutrino::compute {

// Key positions [first, end) that the query of a sequence's row `row` sees.
struct Visible {
  int64_t first, end;
};
Visible visible_positions(const AttentionShape& shape, const SequenceRows& sequence, int64_t row);

// out = softmax(scores) V for query q (head_dim) of attention head `head` in row `row` of the sequence: value_dim floats.
// Takes no memory but some KB of stack.
void attend_query(const AttentionShape& shape, const SequenceRows& sequence, int64_t row, int64_t head,
                  const PagedKvCache& cache, int64_t layer, const float* q, float* out);

// The value's width, which AttentionShape gives as 0 where it is the key's.
inline int64_t value_dim(const AttentionShape& shape) {
  return shape.value_dim > 0 ? shape.value_dim : shape.head_dim;
}

// The sequence's blocks of the layer at `place`.
inline std::span<const int32_t> block_table(const SequenceRows& sequence, const KvTiles& place) {
  return place.group == 0 ? sequence.block_table : sequence.window_table;
}

// check()s that the rows and the cache's layer are of the shape.
void check_shapes(const Tensor& qkv, const AttentionShape& shape, const PagedKvCache& cache, int64_t layer);

}  // namespace neutrino::compute
