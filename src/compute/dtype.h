// Data types of tensors, and the one place that knows how many bytes they take.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace neutrino::compute {

// A quantised type stores `block` weights together, in GGUF's layouts (ggml's gguf.md and ggml-common.h). dequantize.h says
// which file holds the layout of which type. The iq1-iq3 and tq types are only read, never written.
enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  q8_0,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  nvfp4,
  iq1_s,
  iq1_m,
  iq2_xxs,
  iq2_xs,
  iq2_s,
  iq3_xxs,
  iq3_s,
  tq1_0,
  tq2_0,
  i32,  // not a type of weights; the last, so that kDTypes can count
};
inline constexpr int64_t kDTypes = static_cast<int64_t>(DType::i32) + 1;

struct DTypeInfo {
  std::string_view name;  // "q4_1"
  int64_t block;          // weights per quant block (1 for plain types)
  int64_t block_bytes;    // bytes per quant block
};
const DTypeInfo& dtype_info(DType dtype);
std::optional<DType> dtype_named(std::string_view name);

// Bytes of a row of `columns` elements. nullopt: columns is negative, no multiple of the block, or the product overflows.
std::optional<int64_t> row_bytes(DType dtype, int64_t columns);
std::optional<int64_t> matrix_bytes(DType dtype, int64_t rows, int64_t columns);
std::optional<int64_t> tensor_bytes(DType dtype,
                                    std::span<const int64_t> shape);  // outermost first, not empty

// One row to float32: the bits of ggml's reference (every product and sum is a float32 one, rounded once per operation, in
// ggml's order). `columns` must be whole quant blocks. A scale that is not finite gives values that are not finite.
void dequantize_row(DType dtype, const void* row, int64_t columns, float* out);

float f16_to_f32(uint16_t bits);
uint16_t f32_to_f16(float value);  // round to nearest even
inline float bf16_to_f32(uint16_t bits) {
  return __builtin_bit_cast(float, static_cast<uint32_t>(bits) << 16);
}
uint16_t f32_to_bf16(float value);  // round to nearest even; NaN stays NaN

// FP8 of checkpoints and of block scales (OCP 8-bit floating point). E4M3: bias 7, no infinity, NaN is 0x7F and 0xFF, at most
// 448. E5M2: bias 15, infinities and NaN as f16 has them (it is the high byte of an f16). E8M0: 2^(bits - 127), 0xFF is NaN.
float f8_e4m3_to_f32(uint8_t bits);
inline float f8_e5m2_to_f32(uint8_t bits) { return f16_to_f32(static_cast<uint16_t>(bits << 8)); }
float e8m0_to_f32(uint8_t bits);

}  // namespace neutrino::compute
