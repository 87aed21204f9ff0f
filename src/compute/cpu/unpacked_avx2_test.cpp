// Products of many rows on the AVX2 table, where the sums of groups of columns come closest to what their integers hold.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/random.h"
#include "compute/backend.h"
#include "compute/cpu/select.h"

namespace neutrino::compute::cpu {
namespace {

// More than one segment; the rows take tiles of 4, 2 and 1.
constexpr int64_t kBlocks = 32, kColumns = kBlocks * kColumnBlock, kRows = 39;
constexpr int8_t kCodebook[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 127};

// What a value is, of columns of weights and of activations: the shape decides how many columns a group may have.
enum class Shape { constant, alternating, single, random };
constexpr Shape kShapes[] = {Shape::constant, Shape::alternating, Shape::single, Shape::random};

float value_of(Shape shape, int64_t column, Random& random) {
  switch (shape) {
    case Shape::constant: return 1;
    case Shape::alternating: return column % 2 == 0 ? 1 : -1;
    case Shape::single: return column == kColumns / 2 ? 1 : 1e-3f;
    case Shape::random: return static_cast<float>(random.uniform()) * 2 - 1;
  }
  return 0;
}

template <typename T>
void put(uint8_t* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

// The lower four bits of column c of a block's row r.
void put_nibble(uint8_t* block, int64_t r, int64_t c, int q) {
  block[c % 16 / 4 * 64 + r * 4 + c % 4] |= static_cast<uint8_t>((q & 15) << (c / 16 * 4));
}

// A kind of weights: how the value v in [-1, 1] of row r, column c is put into a panel, as its largest weight times v; and what
// else the panel has: the largest e and, of sixes, the largest s.
struct Kind {
  const char* name;
  int64_t block_bytes;
  void (*Kernels::*product)(const PanelTask&);
  void (*put_weight)(uint8_t* panel, int64_t r, int64_t c, float v, Shape shape);
  void (*put_factors)(uint8_t* panel, int64_t r);
};

int scaled(float v, int half) {
  return std::min(2 * half - 1, half + static_cast<int>(static_cast<float>(half) * v));
}

constexpr Kind kKinds[] = {
    {"nibble", kNibbleBlockBytes, &Kernels::nibble_panels,
     [](uint8_t* panel, int64_t r, int64_t c, float v, Shape) {
       put_nibble(panel + c / 32 * kNibbleBlockBytes, r, c % 32, scaled(v, 8));
     },
     [](uint8_t* panel, int64_t r) {
       for (int64_t b = 0; b < kBlocks; ++b) put<int16_t>(panel + b * kNibbleBlockBytes + 256 + r * 4, 2048);
     }},
    {"five", kFiveBlockBytes, &Kernels::five_panels,
     [](uint8_t* panel, int64_t r, int64_t c, float v, Shape) {
       uint8_t* const block = panel + c / 32 * kFiveBlockBytes;
       const int q = scaled(v, 16);
       put_nibble(block, r, c % 32, q);
       block[256 + r * 4 + c % 4] |= static_cast<uint8_t>(q >> 4 << c % 32 / 4);
     },
     [](uint8_t* panel, int64_t r) {
       for (int64_t b = 0; b < kBlocks; ++b) put<int16_t>(panel + b * kFiveBlockBytes + 320 + r * 4, 1024);
     }},
    {"six", kSixBlockBytes, &Kernels::six_panels,
     [](uint8_t* panel, int64_t r, int64_t c, float v, Shape) {
       uint8_t* const block = panel + c / 256 * kSixBlocks * kSixBlockBytes + c % 256 / 32 * kSixBits;
       const int q = scaled(v, 32);
       put_nibble(block, r, c % 32, q);
       block[256 + c % 32 / 16 * 64 + r * 4 + c % 4] |= static_cast<uint8_t>(q >> 4 << c % 16 / 4 * 2);
     },
     [](uint8_t* panel, int64_t r) {
       for (int64_t b = 0; b < kBlocks; ++b) {
         uint8_t* const run = panel + b / kSixBlocks * kSixBlocks * kSixBlockBytes;
         for (int64_t half = 0; half < 2; ++half)
           run[kSixScalesAt + b % kSixBlocks * 32 + r * 2 + half] =
               static_cast<uint8_t>(half == 0 ? -128 : 127);
         put<float>(run + kSixFactorsAt + r * 4, r % 2 == 0 ? -131072 : 131071);
       }
     }},
    {"code", kCodeBlockBytes, &Kernels::code_panels,
     [](uint8_t* panel, int64_t r, int64_t c, float v, Shape) {
       put_nibble(panel + c / 32 * kCodeBlockBytes, r, c % 32, scaled(v, 8));
     },
     [](uint8_t* panel, int64_t r) {
       for (int64_t b = 0; b < kBlocks; ++b)
         put<float>(panel + b * kCodeBlockBytes + 256 + r * 4, r % 2 == 0 ? -131072 : 131071);
     }},
    {"byte", kByteBlockBytes, &Kernels::byte_panels,
     [](uint8_t* panel, int64_t r, int64_t c, float v, Shape) {
       panel[c / 32 * kByteBlockBytes + c % 32 / 4 * 64 + r * 4 + c % 4] =
           static_cast<uint8_t>(scaled(v, 128));
     },
     [](uint8_t* panel, int64_t r) {
       for (int64_t b = 0; b < kBlocks; ++b)
         put<float>(panel + b * kByteBlockBytes + 512 + r * 4, r % 2 == 0 ? -131072 : 131071);
     }},
    // 16256 times a run's sum of |W| is below 2^31: each of kWordRun columns has 1032 at most, a single one all there is.
    {"word", kWordBlockBytes, &Kernels::word_panels,
     [](uint8_t* panel, int64_t r, int64_t c, float v, Shape shape) {
       const float largest = shape == Shape::single ? 32767 : 1032;
       put<int16_t>(panel + (c / 2 * kPanelRows + r) * 4 + c % 2 * 2, static_cast<int16_t>(largest * v));
     },
     [](uint8_t*, int64_t) {}},
};

uint8_t* aligned(std::vector<uint8_t>& bytes) {
  return bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64;
}

struct Case {
  const Kind& kind;
  Shape weights, activations;
  bool one_changed = false;  // a weight is another than it should be
};

constexpr int64_t kStride = planes_offset(kBlocks);
constexpr int64_t kBrokenRow = 17, kZeroRow = 21;  // of activations

std::vector<uint8_t> panel_of(const Case& c, Random& random) {
  std::vector<uint8_t> memory(static_cast<size_t>(kBlocks * c.kind.block_bytes + 64));
  uint8_t* const panel = aligned(memory);
  for (int64_t r = 0; r < kPanelRows; ++r) {
    for (int64_t column = 0; column < kColumns; ++column) {
      const float value = value_of(c.weights, column, random) * (r % 3 == 0 ? -1.0f : 1.0f);
      const bool changed = c.one_changed && r == 5 && column == 777;
      c.kind.put_weight(panel, r, column, changed ? -value : value, c.weights);
    }
    c.kind.put_factors(panel, r);
  }
  std::copy_n(panel, kBlocks * c.kind.block_bytes, memory.begin());
  return memory;
}

std::vector<float> product(const Kernels& table, const Case& c) {
  Random random(7);
  const std::vector<uint8_t> packed = panel_of(c, random);
  std::vector<uint8_t> panel_memory(packed.size() + 64), x_memory(static_cast<size_t>(kRows * kStride + 64)),
      work(static_cast<size_t>(table.product_work_bytes + 64));
  std::ranges::copy(packed, aligned(panel_memory));
  uint8_t* const x = aligned(x_memory);
  for (int64_t r = 0; r < kRows; ++r) {
    std::vector<float> values(kColumns);
    for (int64_t column = 0; column < kColumns; ++column)
      values[column] = r == kZeroRow ? 0 : value_of(c.activations, column, random);
    if (r == kBrokenRow) values[100] = std::nanf("");
    table.quantize(values.data(), kColumns, x + r * kStride);
  }
  std::vector<float> out(kRows * kPanelRows, 1.0f);
  const std::vector<float> scales(kPanelRows, 0.01f);
  (table.*c.kind.product)({.panel = aligned(panel_memory),
                           .panels = 1,
                           .panel_bytes = kBlocks * c.kind.block_bytes,
                           .scales = scales.data(),
                           .codebook = kCodebook,
                           .blocks = kBlocks,
                           .x = x,
                           .x_stride = kStride,
                           .rows = kRows,
                           .out = out.data(),
                           .out_stride = kPanelRows,
                           .add = true,
                           .work = aligned(work)});
  return out;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

class UnpackedAvx2 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (std::ranges::find(available_isas(), "avx2") == available_isas().end()) GTEST_SKIP() << "no AVX2";
  }
};

TEST_F(UnpackedAvx2, LargestSumsHaveTheGenericTablesBits) {
  for (const Kind& kind : kKinds)
    for (const Shape weights : kShapes)
      for (const Shape activations : kShapes) {
        const Case c = {kind, weights, activations};
        EXPECT_TRUE(same_bits(product(kAvx2Kernels, c), product(kGenericKernels, c)))
            << kind.name << ", " << static_cast<int>(weights) << ", " << static_cast<int>(activations);
      }
}

TEST_F(UnpackedAvx2, OneOtherWeightWouldBeSeen) {
  for (const Kind& kind : kKinds) {
    const Case as_it_is = {kind, Shape::random, Shape::random};
    Case changed = as_it_is;
    changed.one_changed = true;
    EXPECT_FALSE(same_bits(product(kAvx2Kernels, changed), product(kGenericKernels, as_it_is))) << kind.name;
  }
}

TEST_F(UnpackedAvx2, ABrokenRowAndAZeroRowStayAlone) {
  for (const Kind& kind : kKinds) {
    const std::vector<float> out = product(kAvx2Kernels, {kind, Shape::random, Shape::random});
    for (int64_t r = 0; r < kRows; ++r)
      for (int64_t i = 0; i < kPanelRows; ++i) {
        const float y = out[r * kPanelRows + i];
        EXPECT_EQ(std::isnan(y), r == kBrokenRow) << kind.name << ' ' << r;
        EXPECT_EQ(y == 1, r == kZeroRow) << kind.name << ' ' << r;
      }
  }
}

}  // namespace
}  // namespace neutrino::compute::cpu
