// Data types of tensors, and the one place that knows how many bytes they take.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace neutrino::compute {

// A quantised type stores `block` weights together (GGUF's layouts, spec: ggml's gguf.md and ggml-common.h):
//   q8_0: f16 d; int8 q[32]                 w = d*q
//   q4_0: f16 d; uint8 q[16]                w = d*(q-8); byte j holds element j (low nibble) and j+16 (high)
//   q4_1: f16 d; f16 m; uint8 q[16]         w = d*q + m; the same nibble order
enum class DType : uint8_t { f32, f16, bf16, q8_0, q4_0, q4_1, i32 };

struct DTypeInfo {
  std::string_view name;  // "q4_1"
  int64_t block;          // weights per quant block (1 for plain types)
  int64_t block_bytes;    // bytes per quant block
};
const DTypeInfo& dtype_info(DType dtype);

// Bytes of a row of `columns` elements. nullopt: columns is negative, no multiple of the block, or the product overflows.
std::optional<int64_t> row_bytes(DType dtype, int64_t columns);
std::optional<int64_t> matrix_bytes(DType dtype, int64_t rows, int64_t columns);

// One row to float32, exactly (every f16, bf16 and quantised value here is a float32 product and sum, rounded once per op
// as ggml's reference does: q4_1 is float(d)*q + float(m)).
void dequantize_row(DType dtype, const void* row, int64_t columns, float* out);

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);  // round to nearest even
inline float bf16_to_f32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}
uint16_t f32_to_bf16(float value);  // round to nearest even; NaN stays NaN

}  // namespace neutrino::compute
