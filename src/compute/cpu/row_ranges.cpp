#include "compute/cpu/row_ranges.h"

#include <algorithm>

#include "compute/attention_query.h"

namespace neutrino::compute::cpu {
namespace {

constexpr int64_t kSharedPositionsMin = 2 * kBlockPositions;  // to go through them together

template <typename T>
T* take(Scratch& scratch, int64_t count) {
  return reinterpret_cast<T*>(scratch.take(count * static_cast<int64_t>(sizeof(T))));
}

// Of the positions before both ranges: those in whole blocks that both tables have in the same place, from the first on.
int64_t shared_positions(const RowRange& a, const RowRange& b, const KvTiles& place) {
  const auto one = block_table(*a.sequence, place), other = block_table(*b.sequence, place);
  const int64_t most = std::min(a.positions_before(), b.positions_before()) / kBlockPositions;
  int64_t blocks = 0;
  while (blocks < most && one[blocks] == other[blocks]) ++blocks;
  return blocks * kBlockPositions;
}

}  // namespace

std::span<RowRange> cut_rows(const Batch& batch, int64_t positions, Scratch& scratch) {
  int64_t count = 0;
  for (const SequenceRows& sequence : batch.sequences) count += sequence.rows / positions + 2;
  auto* ranges = take<RowRange>(scratch, count);
  count = 0;
  for (const SequenceRows& sequence : batch.sequences)
    for (int64_t first = 0; first < sequence.rows;) {
      const int64_t rows =
          std::min(sequence.rows - first, positions - (sequence.first_position + first) % positions);
      ranges[count++] = {.sequence = &sequence, .first = first, .rows = rows};
      first += rows;
    }
  return {ranges, static_cast<size_t>(count)};
}

std::span<RangeGroup> group_ranges(std::span<const RowRange> ranges, const KvTiles& place, int64_t count_max,
                                   int64_t rows_max, Scratch& scratch) {
  auto* groups = take<RangeGroup>(scratch, std::ssize(ranges));
  int64_t count = 0;
  for (int64_t first = 0; first < std::ssize(ranges); first += groups[count++].count) {
    RangeGroup group = {first, 1, ranges[first].positions_before() / kBlockPositions * kBlockPositions};
    int64_t rows = ranges[first].rows;
    for (int64_t next = first + 1; next < std::ssize(ranges) && group.count < count_max; ++next) {
      const int64_t shared =
          std::min(group.shared_positions, shared_positions(ranges[first], ranges[next], place));
      rows += ranges[next].rows;
      if (rows > rows_max || shared < kSharedPositionsMin || 2 * shared < group.shared_positions) break;
      group.shared_positions = shared;
      ++group.count;
    }
    groups[count] = group;
  }
  return {groups, static_cast<size_t>(count)};
}

}  // namespace neutrino::compute::cpu
