// A batch's rows in pieces that are work for a thread, and those pieces that go through the blocks of keys and values together.
#pragma once

#include <cstdint>
#include <span>

#include "compute/batch.h"
#include "compute/paged_kv_cache.h"
#include "compute/scratch.h"

namespace neutrino::compute::cpu {

// Some rows of one sequence: the rows whose positions share a KV block, or a piece of an attention.
struct RowRange {
  const SequenceRows* sequence;
  int64_t first, rows;  // row first_row + first ... of the batch

  int64_t positions_before() const { return sequence->first_position + first; }
};

// Cuts every sequence's rows where positions reach a multiple of `positions`. In `scratch`, as is the next.
std::span<RowRange> cut_rows(const Batch& batch, int64_t positions, Scratch& scratch);

// Ranges of rows that go through the blocks together: [first, first + count), of which the first so many positions stand in the
// same blocks.
struct RangeGroup {
  int64_t first, count, shared_positions;
};

// Neighbours that have most of their past in common: choices of one prompt, behind a common one. At most `count_max` of them,
// with at most `rows_max` rows; none, if that is 1.
std::span<RangeGroup> group_ranges(std::span<const RowRange> ranges, const KvTiles& place, int64_t count_max,
                                   int64_t rows_max, Scratch& scratch);

}  // namespace neutrino::compute::cpu
