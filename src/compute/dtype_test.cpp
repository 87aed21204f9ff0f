#include "compute/dtype.h"

#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "base/file.h"

namespace neutrino::compute {
namespace {

// Backends leave flush-to-zero on in their threads, and the tests of this program share one.
class DTypeBits : public ::testing::Test {
 protected:
  void SetUp() override { std::fesetenv(FE_DFL_ENV); }
};

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

std::string take_name(std::string_view& rest) {
  const auto letters = take<char>(rest, 16);
  return letters.data();
}

// The golden values are gguf-py's; tools/make_dtype_golden.py wrote them: blocks of random bits, with scales of every kind.
TEST_F(DTypeBits, rows_dequantise_to_the_bits_of_gguf_py) {
  const std::string file = read_file(NEUTRINO_SOURCE_DIR "/tests/golden/dtype.bin", 1 << 20);
  std::string_view rest = file;
  std::set<DType> seen;
  while (!rest.empty()) {
    const DType dtype = dtype_named(take_name(rest)).value();
    const auto head = take<uint32_t>(rest, 2);
    ASSERT_EQ(row_bytes(dtype, head[0]), head[1]);
    const auto row = take<uint8_t>(rest, head[1]);
    const auto expected = take<float>(rest, head[0]);
    std::vector<float> got(head[0]);
    dequantize_row(dtype, row.data(), head[0], got.data());
    seen.insert(dtype);
    for (size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(got[i]));
      } else {
        ASSERT_EQ(bits_of(got[i]), bits_of(expected[i])) << dtype_info(dtype).name << " element " << i;
      }
    }
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kDTypes - 2));  // all but f32 and i32
}

TEST(DType, names_are_found) {
  for (int64_t i = 0; i < kDTypes; ++i)
    EXPECT_EQ(dtype_named(dtype_info(static_cast<DType>(i)).name), static_cast<DType>(i));
  EXPECT_EQ(dtype_named("q4_K"), std::nullopt);
}

// Each of the 256 codes against the formula of the OCP specification.
TEST_F(DTypeBits, every_f8_is_what_the_specification_says) {
  for (int code = 0; code < 256; ++code) {
    const auto bits = static_cast<uint8_t>(code);
    const int exponent = code >> 3 & 15, mantissa = code & 7;
    const double magnitude =
        exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    const float e4m3 = f8_e4m3_to_f32(bits), e5m2 = f8_e5m2_to_f32(bits);
    if ((code & 0x7F) == 0x7F)
      EXPECT_TRUE(std::isnan(e4m3));
    else
      EXPECT_EQ(e4m3, code & 0x80 ? -magnitude : magnitude) << code;
    EXPECT_EQ(std::signbit(e5m2), code >= 128);
    if ((code & 0x7F) > 0x7C)
      EXPECT_TRUE(std::isnan(e5m2));
    else
      EXPECT_EQ(e5m2, f16_value(static_cast<uint16_t>(code << 8)) * ((code & 0x7F) == 0x7C ? HUGE_VAL : 1));
    if (code == 255)
      EXPECT_TRUE(std::isnan(e8m0_to_f32(bits)));
    else
      EXPECT_EQ(e8m0_to_f32(bits), std::ldexp(1.0, code - 127)) << code;
  }
  EXPECT_EQ(f8_e4m3_to_f32(0x7E), 448.0f);
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
