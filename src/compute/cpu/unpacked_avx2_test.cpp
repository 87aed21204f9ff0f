// Products of many rows on the AVX2 table, where the sums of groups of columns come closest to what int32 holds.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "compute/backend.h"
#include "compute/cpu/select.h"

namespace neutrino::compute::cpu {
namespace {

constexpr int64_t kBlocks = 31, kColumns = kBlocks * kColumnBlock, kRows = 39;

// What a value is, of columns of weights and of activations: the shape decides how many columns a group may have.
enum class Shape { constant, alternating, single, random };

float value_of(Shape shape, int64_t column, Random& random) {
  switch (shape) {
    case Shape::constant: return 1;
    case Shape::alternating: return column % 2 == 0 ? 1 : -1;
    case Shape::single: return column == kColumns / 2 ? 1 : 1e-3f;
    case Shape::random: return static_cast<float>(random.uniform()) * 2 - 1;
  }
  return 0;
}

struct Products {
  std::vector<float> out;

  // Nibbles (or fives) of a panel whose rows have the weights 16383 * value, about: e = 2048 (1024), f = 0.
  Products(const Kernels& table, bool fives, Shape weights, Shape activations) : out(kRows * kPanelRows) {
    Random random(7);
    const int64_t block_bytes = fives ? kFiveBlockBytes : kNibbleBlockBytes, pairs = fives ? 320 : 256;
    std::vector<uint8_t> memory(static_cast<size_t>(kBlocks * block_bytes + 64)),
        x_memory(static_cast<size_t>(kRows * stride() + 64)),
        work(static_cast<size_t>(table.product_work_bytes + 64));
    uint8_t* const panel = aligned(memory);
    for (int64_t r = 0; r < kPanelRows; ++r)
      for (int64_t c = 0; c < kColumns; ++c) {
        uint8_t* block = panel + c / 32 * block_bytes;
        const int half = fives ? 16 : 8, i = static_cast<int>(c % 32);
        const float value = value_of(weights, c, random) * (r % 3 == 0 ? -1.0f : 1.0f);
        const int q = std::min(2 * half - 1, half + static_cast<int>(static_cast<float>(half) * value));
        block[i % 16 / 4 * 64 + r * 4 + i % 4] |= static_cast<uint8_t>((q & 15) << (i / 16 * 4));
        if (fives) block[256 + r * 4 + i % 4] |= static_cast<uint8_t>(q >> 4 << i / 4);
        const int16_t ef[] = {static_cast<int16_t>(fives ? 1024 : 2048), 0};
        std::memcpy(block + pairs + r * 4, ef, sizeof ef);
      }
    uint8_t* const x = aligned(x_memory);
    for (int64_t r = 0; r < kRows; ++r) {
      std::vector<float> values(kColumns);
      for (int64_t c = 0; c < kColumns; ++c) values[c] = value_of(activations, c, random);
      table.quantize(values.data(), kColumns, x + r * stride());
    }
    const std::vector<float> scales(kPanelRows, 0.01f);
    const PanelTask task = {.panel = panel,
                            .panels = 1,
                            .panel_bytes = kBlocks * block_bytes,
                            .scales = scales.data(),
                            .codebook = nullptr,
                            .blocks = kBlocks,
                            .x = x,
                            .x_stride = stride(),
                            .rows = kRows,
                            .out = out.data(),
                            .out_stride = kPanelRows,
                            .add = false,
                            .work = aligned(work)};
    (fives ? table.five_panels : table.nibble_panels)(task);
  }

  static int64_t stride() { return planes_offset(kBlocks); }
  static uint8_t* aligned(std::vector<uint8_t>& bytes) {
    return bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
  }
};

TEST(UnpackedAvx2, LargestSumsHaveTheGenericTablesBits) {
  if (std::ranges::find(available_isas(), "avx2") == available_isas().end()) GTEST_SKIP() << "no AVX2";
  constexpr Shape kShapes[] = {Shape::constant, Shape::alternating, Shape::single, Shape::random};
  for (const bool fives : {false, true})
    for (const Shape weights : kShapes)
      for (const Shape activations : kShapes) {
        const Products want(kGenericKernels, fives, weights, activations),
            got(kAvx2Kernels, fives, weights, activations);
        EXPECT_EQ(std::memcmp(got.out.data(), want.out.data(), want.out.size() * sizeof(float)), 0)
            << (fives ? "five, " : "nibble, ") << static_cast<int>(weights) << ", "
            << static_cast<int>(activations);
      }
}

}  // namespace
}  // namespace neutrino::compute::cpu
