#include "compute/dtype.h"

#include <iterator>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::compute {
namespace {

// Indexed by DType.
constexpr DTypeInfo kInfo[] = {
    {"f32", 1, 4},       {"f16", 1, 2},      {"bf16", 1, 2},       {"q8_0", 32, 34},    {"q4_0", 32, 18},
    {"q4_1", 32, 20},    {"q5_0", 32, 22},   {"q5_1", 32, 24},     {"q2_k", 256, 84},   {"q3_k", 256, 110},
    {"q4_k", 256, 144},  {"q5_k", 256, 176}, {"q6_k", 256, 210},   {"iq4_nl", 32, 18},  {"iq4_xs", 256, 136},
    {"mxfp4", 32, 17},   {"nvfp4", 64, 36},  {"iq1_s", 256, 50},   {"iq1_m", 256, 56},  {"iq2_xxs", 256, 66},
    {"iq2_xs", 256, 74}, {"iq2_s", 256, 82}, {"iq3_xxs", 256, 98}, {"iq3_s", 256, 110}, {"tq1_0", 256, 54},
    {"tq2_0", 256, 66},  {"i32", 1, 4},
};
static_assert(std::size(kInfo) == kDTypes);

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  check(index < std::size(kInfo), "unknown DType");
  return kInfo[index];
}

std::optional<DType> dtype_named(std::string_view name) {
  for (size_t i = 0; i < std::size(kInfo); ++i)
    if (kInfo[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

std::optional<int64_t> row_bytes(DType dtype, int64_t columns) {
  const DTypeInfo& info = dtype_info(dtype);
  if (columns < 0 || columns % info.block != 0) return std::nullopt;
  return checked_mul(columns / info.block, info.block_bytes);
}

std::optional<int64_t> matrix_bytes(DType dtype, int64_t rows, int64_t columns) {
  const auto row = row_bytes(dtype, columns);
  if (!row || rows < 0) return std::nullopt;
  return checked_mul(rows, *row);
}

std::optional<int64_t> tensor_bytes(DType dtype, std::span<const int64_t> shape) {
  std::optional<int64_t> rows = 1;
  for (const int64_t size : shape.first(shape.size() - 1)) {
    rows = size < 0 ? std::nullopt : checked_mul(*rows, size);
    if (!rows) return std::nullopt;
  }
  return matrix_bytes(dtype, *rows, shape.back());
}

// A subnormal f16 is mantissa * 2^-24, which float32 holds exactly; the other cases only move bits.
float f16_to_f32(uint16_t bits) {
  const uint32_t sign = uint32_t{bits & 0x8000u} << 16, exponent = (bits >> 10) & 31,
                 mantissa = bits & 0x3FFu;
  if (exponent == 31) return __builtin_bit_cast(float, sign | 0x7F800000u | mantissa << 13);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  return __builtin_bit_cast(float, sign | (exponent + 112) << 23 | mantissa << 13);
}

namespace {

// value >> shift, rounded to nearest, ties to even. shift in [1, 31].
uint32_t round_shift(uint32_t value, uint32_t shift) {
  const uint32_t half = 1u << (shift - 1), low = value & ((1u << shift) - 1), result = value >> shift;
  return result + (low > half || (low == half && (result & 1)) ? 1 : 0);
}

}  // namespace

uint16_t f32_to_f16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value), magnitude = bits & 0x7FFFFFFFu;
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t exponent = magnitude >> 23;
  if (magnitude > 0x7F800000u)
    return static_cast<uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x1FFu));  // quiet NaN
  if (exponent >= 143) return sign | 0x7C00u;                                     // >= 2^16: infinity
  if (exponent >= 113)  // normal; a carry may reach infinity
    return static_cast<uint16_t>(sign | round_shift(magnitude - (112u << 23), 13));
  if (exponent < 102) return sign;                                // < 2^-25: rounds to zero
  const uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;  // subnormal: multiples of 2^-24
  return static_cast<uint16_t>(sign | round_shift(mantissa, 126 - exponent));
}

float f8_e4m3_to_f32(uint8_t bits) {
  const uint32_t sign = uint32_t{bits & 0x80u} << 24, exponent = (bits >> 3) & 15, mantissa = bits & 7u;
  if (exponent == 15 && mantissa == 7) return __builtin_bit_cast(float, sign | 0x7FC00000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
    return sign ? -magnitude : magnitude;
  }
  return __builtin_bit_cast(float, sign | (exponent + 120) << 23 | mantissa << 20);
}

float e8m0_to_f32(uint8_t bits) {
  if (bits == 0xFF) return __builtin_bit_cast(float, 0x7FC00000u);
  return __builtin_bit_cast(float, bits == 0 ? 0x00400000u : uint32_t{bits} << 23);  // 2^-127 is subnormal
}

uint16_t f32_to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>(bits >> 31 << 15 | round_shift(bits & 0x7FFFFFFFu, 16));
}

}  // namespace neutrino::compute
