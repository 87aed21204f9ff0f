// Byte-pair merging: of all neighbours that a merge is known for, the best-ranked pair, leftmost first, becomes one symbol,
// until none is left (Sennrich et al. 2016).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace neutrino::tokenizer {

class MergeTable {
 public:
  static constexpr int32_t kNone = std::numeric_limits<int32_t>::max();

  struct Merge {
    int32_t rank;  // kNone: the two do not merge
    int32_t result;
  };

  void reserve(size_t count);  // before the first add()
  // Lower ranks merge first; pairs may share one. False: the pair is there already.
  bool add(int32_t left, int32_t right, int32_t rank, int32_t result);
  Merge find(int32_t left, int32_t right) const;

 private:
  struct Slot {
    uint64_t pair;  // (left, right); kEmpty: free
    Merge merge;
  };
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  size_t slot_of(uint64_t pair) const;

  std::vector<Slot> slots_;  // open addressing; a power of two, at most half full
};

// Merges in place and returns the number of symbols left. Time: n log(distinct pairs) for any text and any sane table.
size_t merge_symbols(const MergeTable& table, std::span<int32_t> symbols);

}  // namespace neutrino::tokenizer
