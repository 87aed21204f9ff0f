#include "compute/cpu/weight_memory.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace neutrino::compute::cpu {
namespace {

TEST(WeightMemory, PiecesAreZeroedAlignedAndApart) {
  WeightMemory memory;
  std::shared_ptr<uint8_t> last;
  for (const int64_t bytes : {1, 64, 100, 3 << 20, 65 << 20, 7}) {
    const std::shared_ptr<uint8_t> piece = memory.take(bytes);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(piece.get()) % 64, 0u);
    EXPECT_TRUE(std::all_of(piece.get(), piece.get() + bytes, [](uint8_t byte) { return byte == 0; }));
    std::fill_n(piece.get(), bytes, uint8_t{255});
    last = piece;
  }
  EXPECT_EQ(last.get()[6], 255);
}

TEST(WeightMemory, APieceOutlivesWhereItCameFrom) {
  std::shared_ptr<uint8_t> piece;
  {
    WeightMemory memory;
    piece = memory.take(1000);
  }
  piece.get()[999] = 1;
  EXPECT_EQ(piece.get()[999], 1);
}

}  // namespace
}  // namespace neutrino::compute::cpu
