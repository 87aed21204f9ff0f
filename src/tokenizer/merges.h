// Byte-pair merging: of all neighbours that a merge is known for, the best-ranked pair, leftmost first, becomes one symbol,
// until none is left (Sennrich et al. 2016).
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <unordered_map>
#include <vector>

namespace neutrino::tokenizer {

class MergeTable {
 public:
  static constexpr int32_t kNone = std::numeric_limits<int32_t>::max();

  void reserve(size_t count);
  bool add(int32_t left, int32_t right,
           int32_t result);  // ranked in the order of calls; false: the pair is there already
  int32_t rank(int32_t left, int32_t right) const;  // kNone: these two do not merge
  int32_t result(int32_t rank) const { return results_[rank]; }

 private:
  struct Hash {  // the pairs come from a file: mixed, so that it cannot easily choose them to collide
    size_t operator()(uint64_t key) const {
      key = (key ^ (key >> 31)) * 0x7FB5D329728EA185u;
      return (key ^ (key >> 27)) * 0x81DADEF4BC2DD44Du;
    }
  };
  std::unordered_map<uint64_t, int32_t, Hash> ranks_;  // (left, right) -> rank
  std::vector<int32_t> results_;                       // by rank
};

// Merges in place and returns the number of symbols left. Time: n log(distinct pairs) for any text and any sane table.
size_t merge_symbols(const MergeTable& table, std::span<int32_t> symbols);

}  // namespace neutrino::tokenizer
