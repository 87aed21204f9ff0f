#include "compute/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/file.h"

namespace neutrino::compute {
namespace {

uint32_t bits_of(float value) { return __builtin_bit_cast(uint32_t, value); }

// What the bits of an f16 mean, by arithmetic instead of bit moves.
double f16_value(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 0x3FF;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

bool is_f16_number(uint16_t bits) { return ((bits >> 10) & 31) != 31; }

TEST(DType, bytes_of_rows_and_matrices) {
  EXPECT_EQ(row_bytes(DType::f32, 10), 40);
  EXPECT_EQ(row_bytes(DType::q8_0, 64), 68);
  EXPECT_EQ(row_bytes(DType::q4_0, 64), 36);
  EXPECT_EQ(matrix_bytes(DType::q4_1, 3, 64), 120);
  EXPECT_EQ(matrix_bytes(DType::bf16, 0, 64), 0);
}

TEST(DType, sizes_that_cannot_be_are_no_sizes) {
  const int64_t max = std::numeric_limits<int64_t>::max();
  EXPECT_EQ(row_bytes(DType::q4_0, 33), std::nullopt);
  EXPECT_EQ(row_bytes(DType::f32, -1), std::nullopt);
  EXPECT_EQ(row_bytes(DType::f32, max / 2), std::nullopt);
  EXPECT_EQ(matrix_bytes(DType::q8_0, max / 2, 32), std::nullopt);
  EXPECT_EQ(matrix_bytes(DType::f16, -1, 32), std::nullopt);
}

TEST(DType, every_f16_converts_exactly_and_back) {
  for (uint32_t i = 0; i < 1 << 16; ++i) {
    const auto bits = static_cast<uint16_t>(i);
    const float value = f16_to_f32(bits);
    if (is_f16_number(bits)) {
      ASSERT_EQ(value, f16_value(bits)) << bits;
      ASSERT_EQ(std::signbit(value), bits >> 15 == 1) << bits;
      ASSERT_EQ(f32_to_f16(value), bits);
    } else if (bits & 0x3FF) {
      ASSERT_TRUE(std::isnan(value));
      ASSERT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value))));
    } else {
      ASSERT_TRUE(std::isinf(value));
      ASSERT_EQ(f32_to_f16(value), bits);
    }
  }
}

TEST(DType, f16_rounds_to_the_nearest_and_ties_to_even) {
  for (uint16_t low = 0; low < 0x7BFF; ++low) {
    const auto high = static_cast<uint16_t>(low + 1);
    const auto middle = static_cast<float>((f16_value(low) + f16_value(high)) / 2);
    ASSERT_EQ(f32_to_f16(middle), low % 2 == 0 ? low : high) << low;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), low) << low;
    ASSERT_EQ(f32_to_f16(-std::nextafter(middle, 1e9f)), high | 0x8000) << low;
  }
  EXPECT_EQ(f32_to_f16(65519.99f), 0x7BFF);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7C00);
  EXPECT_EQ(f32_to_f16(-1e30f), 0xFC00);
}

TEST(DType, bf16_rounds_to_the_nearest_and_ties_to_even) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3F80);
  EXPECT_EQ(f32_to_bf16(__builtin_bit_cast(float, 0x3F808000u)), 0x3F80);  // tie, low is even
  EXPECT_EQ(f32_to_bf16(__builtin_bit_cast(float, 0x3F818000u)), 0x3F82);  // tie, low is odd
  EXPECT_EQ(f32_to_bf16(__builtin_bit_cast(float, 0xBF808001u)), 0xBF81);
  EXPECT_EQ(f32_to_bf16(std::numeric_limits<float>::max()), 0x7F80);  // carries into infinity
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(__builtin_bit_cast(float, 0x7F800001u)))));
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const float value = bf16_to_f32(static_cast<uint16_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(f32_to_bf16(value), bits);
  }
}

template <typename T>
std::vector<T> take(std::string_view& rest, size_t count) {
  std::vector<T> values(count);
  std::memcpy(values.data(), rest.data(), count * sizeof(T));
  rest.remove_prefix(count * sizeof(T));
  return values;
}

// The golden values are gguf-py's; tools/make_dtype_golden.py wrote them.
TEST(DType, rows_dequantise_to_the_bits_of_gguf_py) {
  const std::string file = read_file(NEUTRINO_SOURCE_DIR "/tests/golden/dtype.bin", 1 << 20);
  std::string_view rest = file;
  int records = 0;
  for (; !rest.empty(); ++records) {
    const auto head = take<uint32_t>(rest, 3);
    const auto dtype = static_cast<DType>(head[0]);
    ASSERT_EQ(row_bytes(dtype, head[1]), head[2]);
    const auto row = take<uint8_t>(rest, head[2]);
    const auto expected = take<float>(rest, head[1]);
    std::vector<float> got(head[1]);
    dequantize_row(dtype, row.data(), head[1], got.data());
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(got[i]));
      } else {
        ASSERT_EQ(bits_of(got[i]), bits_of(expected[i])) << dtype_info(dtype).name << " element " << i;
      }
    }
  }
  EXPECT_EQ(records, 5);
}

TEST(DType, f32_rows_are_copied_from_any_address) {
  const float values[2] = {1.5f, -2.25f};
  char shifted[1 + sizeof values];
  std::memcpy(shifted + 1, values, sizeof values);
  float out[2];
  dequantize_row(DType::f32, shifted + 1, 2, out);
  EXPECT_EQ(out[0], 1.5f);
  EXPECT_EQ(out[1], -2.25f);
}

}  // namespace
}  // namespace neutrino::compute
