// The emulated tiles against the definitions of Intel's manual, written here as products of matrices.

#include "compute/cpu/tiles.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "base/random.h"

namespace neutrino::compute::cpu {
namespace {

#include "compute/cpu/tiles_emulated.inl"

using Register = uint8_t[kTileRows][kTileRowBytes];

struct Shape {
  int m, k, n;  // rows of c, columns of a, columns of c
};

// Tiles 0, 1, 2: c (m, n) of int32, a (m, k) of bytes, b (k / 4, 4 n); tile 3 whole.
void configure(Shape shape) {
  TileConfig config;
  const int rows[] = {shape.m, shape.m, shape.k / 4, 16},
            row_bytes[] = {4 * shape.n, shape.k, 4 * shape.n, 64};
  for (int t = 0; t < 4; ++t)
    config.rows[t] = static_cast<uint8_t>(rows[t]), config.row_bytes[t] = static_cast<uint16_t>(row_bytes[t]);
  configure_tiles(config);
}

void fill_random(Random& random, Register& bytes) {
  for (auto& row : bytes)
    for (uint8_t& byte : row) {
      const uint64_t r = random.next();
      byte = static_cast<uint8_t>(r % 4 == 0 ? (r & 16 ? 0x80 : 0xFF) : r >> 8);
    }
}

int value_of(uint8_t byte, bool is_signed) { return is_signed && byte >= 128 ? byte - 256 : byte; }

// c + a b: entry (k, n) of b is byte k % 4 of group n in row k / 4. Modulo 2^32.
std::vector<uint32_t> expected(Shape shape, const Register& c, const Register& a, const Register& b,
                               bool a_signed, bool b_signed) {
  std::vector<uint32_t> out;
  for (int m = 0; m < shape.m; ++m)
    for (int n = 0; n < shape.n; ++n) {
      uint32_t start;
      std::memcpy(&start, &c[m][4 * n], sizeof start);
      int64_t sum = start;
      for (int k = 0; k < shape.k; ++k)
        sum += int64_t{value_of(a[m][k], a_signed)} * value_of(b[k / 4][4 * n + k % 4], b_signed);
      out.push_back(static_cast<uint32_t>(sum));
    }
  return out;
}

struct Product {
  const char* name;
  void (*multiply)();
  bool a_signed, b_signed;
};
constexpr Product kProducts[] = {
    {"ss", multiply_ss<0, 1, 2>, true, true},
    {"su", multiply_su<0, 1, 2>, true, false},
    {"us", multiply_us<0, 1, 2>, false, true},
    {"uu", multiply_uu<0, 1, 2>, false, false},
};

TEST(EmulatedTiles, ProductsAreThoseOfTheManual) {
  Random random(1);
  for (const Shape shape : {Shape{16, 64, 16}, {1, 4, 1}, {5, 64, 16}, {16, 32, 3}, {9, 12, 7}})
    for (const Product& product : kProducts) {
      Register a, b, c, out;
      fill_random(random, a), fill_random(random, b), fill_random(random, c), fill_random(random, out);
      configure(shape);
      load_tile<0>(c, kTileRowBytes), load_tile<1>(a, kTileRowBytes), load_tile<2>(b, kTileRowBytes);
      product.multiply();
      store_tile<0>(out, kTileRowBytes);
      const auto want = expected(shape, c, a, b, product.a_signed, product.b_signed);
      for (int m = 0; m < shape.m; ++m)
        EXPECT_EQ(
            std::memcmp(out[m], &want[static_cast<size_t>(m * shape.n)], static_cast<size_t>(4 * shape.n)), 0)
            << product.name << ", row " << m << " of " << shape.m << 'x' << shape.k << 'x' << shape.n;
    }
}

TEST(EmulatedTiles, SumsWrapAround) {
  configure({1, 4, 1});
  const uint8_t ones[4] = {255, 255, 255, 255};
  uint32_t sum = 0xFFFFFFFF;
  load_tile<0>(&sum, 4), load_tile<1>(ones, 4), load_tile<2>(ones, 4);
  multiply_uu<0, 1, 2>();
  store_tile<0>(&sum, 4);
  EXPECT_EQ(sum, 4u * 255 * 255 - 1);
}

TEST(EmulatedTiles, LoadsAndStoresKeepToTheShapeAndTheStride) {
  configure({3, 8, 2});
  uint8_t from[3 * 100], to[4 * 70];
  for (size_t i = 0; i < sizeof from; ++i) from[i] = static_cast<uint8_t>(i);
  std::memset(to, 0xEE, sizeof to);
  load_tile<1>(from, 100);  // 3 rows of 8 bytes
  store_tile<1>(to, 70);
  for (int i = 0; i < 4 * 70; ++i)
    EXPECT_EQ(to[i], i / 70 < 3 && i % 70 < 8 ? from[i / 70 * 100 + i % 70] : 0xEE) << i;
}

TEST(EmulatedTiles, ZeroingAndConfiguringClearTiles) {
  Register ones, out;
  std::memset(ones, 1, sizeof ones);
  for (const bool by_zeroing : {true, false}) {
    configure({4, 8, 4});
    load_tile<3>(ones, kTileRowBytes);
    by_zeroing ? zero_tile<3>() : configure({4, 8, 4});
    std::memset(out, 1, sizeof out);
    store_tile<3>(out, kTileRowBytes);
    for (const auto& row : out)
      for (const uint8_t byte : row) ASSERT_EQ(byte, 0);
  }
}

// What raises #GP or #UD on a CPU.

void use_after_release() {
  configure({4, 8, 4});
  release_tiles();
  zero_tile<0>();
}
void use_without_a_shape() {
  configure({4, 8, 4});
  zero_tile<5>();
}
void multiply_other_shapes() {
  configure({4, 8, 4});
  multiply_ss<0, 1, 3>();
}
void multiply_a_tile_with_itself() {
  configure({16, 64, 16});
  multiply_ss<0, 1, 1>();
}

TEST(EmulatedTilesDeathTest, WhatACpuRefusesEndsTheProcess) {
  const Shape seventeen_rows = {17, 8, 4}, sixty_eight_bytes = {4, 8, 17}, bytes_without_rows = {0, 8, 4};
  EXPECT_DEATH(configure(seventeen_rows), "");
  EXPECT_DEATH(configure(sixty_eight_bytes), "");
  EXPECT_DEATH(configure(bytes_without_rows), "");
  EXPECT_DEATH(use_after_release(), "");
  EXPECT_DEATH(use_without_a_shape(), "");
  EXPECT_DEATH(multiply_other_shapes(), "");
  EXPECT_DEATH(multiply_a_tile_with_itself(), "");
}

}  // namespace
}  // namespace neutrino::compute::cpu
