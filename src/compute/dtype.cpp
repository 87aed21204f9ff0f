#include "compute/dtype.h"

#include <cstring>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::compute {
namespace {

// Indexed by DType.
constexpr DTypeInfo kDTypes[] = {
    {"f32", 1, 4},    {"f16", 1, 2},    {"bf16", 1, 2}, {"q8_0", 32, 34},
    {"q4_0", 32, 18}, {"q4_1", 32, 20}, {"i32", 1, 4},
};

// Tensor data need not be aligned for its element type (a quant block is 18 bytes), so every load is a copy.
template <typename T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

void dequantize_q8_0(const uint8_t* block, float* out) {
  const float d = f16_to_f32(load<uint16_t>(block));
  for (int i = 0; i < 32; ++i) out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
}

void dequantize_q4_0(const uint8_t* block, float* out) {
  const float d = f16_to_f32(load<uint16_t>(block));
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>((block[2 + j] & 15) - 8);
    out[j + 16] = d * static_cast<float>((block[2 + j] >> 4) - 8);
  }
}

void dequantize_q4_1(const uint8_t* block, float* out) {
  const float d = f16_to_f32(load<uint16_t>(block));
  const float m = f16_to_f32(load<uint16_t>(block + 2));
  for (int j = 0; j < 16; ++j) {
    out[j] = d * static_cast<float>(block[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(block[4 + j] >> 4) + m;
  }
}

void dequantize_blocks(DType dtype, const uint8_t* row, int64_t columns,
                       void (*block)(const uint8_t*, float*), float* out) {
  const DTypeInfo& info = dtype_info(dtype);
  for (int64_t i = 0; i < columns / info.block; ++i) block(row + i * info.block_bytes, out + i * info.block);
}

}  // namespace

const DTypeInfo& dtype_info(DType dtype) {
  const auto index = static_cast<size_t>(dtype);
  check(index < std::size(kDTypes), "unknown DType");
  return kDTypes[index];
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

void dequantize_row(DType dtype, const void* row, int64_t columns, float* out) {
  check(row_bytes(dtype, columns).has_value(), "dequantize_row: columns must be whole quant blocks");
  const auto* bytes = static_cast<const uint8_t*>(row);
  switch (dtype) {
    case DType::f32: std::memcpy(out, bytes, static_cast<size_t>(columns) * sizeof(float)); return;
    case DType::f16:
      for (int64_t i = 0; i < columns; ++i) out[i] = f16_to_f32(load<uint16_t>(bytes + 2 * i));
      return;
    case DType::bf16:
      for (int64_t i = 0; i < columns; ++i) out[i] = bf16_to_f32(load<uint16_t>(bytes + 2 * i));
      return;
    case DType::q8_0: return dequantize_blocks(dtype, bytes, columns, dequantize_q8_0, out);
    case DType::q4_0: return dequantize_blocks(dtype, bytes, columns, dequantize_q4_0, out);
    case DType::q4_1: return dequantize_blocks(dtype, bytes, columns, dequantize_q4_1, out);
    case DType::i32: break;
  }
  check(false, "dequantize_row: i32 holds no weights");
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

uint16_t f32_to_bf16(float value) {
  const uint32_t bits = __builtin_bit_cast(uint32_t, value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>(bits >> 31 << 15 | round_shift(bits & 0x7FFFFFFFu, 16));
}

}  // namespace neutrino::compute
