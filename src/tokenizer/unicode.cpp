#include "tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

namespace neutrino::tokenizer {
namespace {

struct Range {
  uint32_t first, last, traits;
};

constexpr Range kRanges[] = {
#include "tokenizer/unicode_classes.inl"
};

// Two steps from a code point to its traits: its block of 256 (most blocks are alike), then its place in the block.
class TraitTable {
 public:
  TraitTable() {
    std::map<std::array<uint32_t, 256>, uint16_t> known;
    std::array<uint32_t, 256> block{};
    for (uint32_t first = 0; first < 0x110000; first += 256) {
      fill(block, first);
      const auto [found, added] = known.try_emplace(block, static_cast<uint16_t>(blocks_.size()));
      if (added) blocks_.push_back(block);
      block_of_[first >> 8] = found->second;
    }
  }

  uint32_t at(char32_t code) const { return code < 0x110000 ? blocks_[block_of_[code >> 8]][code & 255] : 0; }

 private:
  static void fill(std::array<uint32_t, 256>& block, uint32_t first) {
    block.fill(0);
    const Range* range = std::partition_point(std::begin(kRanges), std::end(kRanges),
                                              [&](const Range& r) { return r.last < first; });
    for (; range != std::end(kRanges) && range->first < first + 256; ++range)
      for (uint32_t code = std::max(range->first, first); code <= std::min(range->last, first + 255); ++code)
        block[code & 255] = range->traits;
  }

  std::array<uint16_t, 0x1100> block_of_{};
  std::vector<std::array<uint32_t, 256>> blocks_;
};

}  // namespace

uint32_t char_traits(char32_t code) {
  static const TraitTable table;
  return table.at(code);
}

}  // namespace neutrino::tokenizer
