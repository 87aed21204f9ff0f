// One quant block to float32, per type; dequantize_row() in dtype.h is the front door.
//
//   dequantize.cpp           q4_0 q4_1 q5_0 q5_1 q8_0, and the 4-bit floating point blocks mxfp4 nvfp4
//   dequantize_k.cpp         q2_k ... q6_k: 256 weights in sub-blocks whose scales are small integers
//   dequantize_iq.cpp        iq4_nl iq4_xs, and the types whose weights are points of a codebook (iq1, iq2, iq3)
//   dequantize_ternary.cpp   tq1_0 tq2_0
//
// A block may stand at any address. Every function here gives the bits of ggml's reference and of the `gguf` package, which
// tests/golden/dtype.bin holds to compare with.
#pragma once

#include <cstdint>
#include <cstring>

#include "compute/dtype.h"

namespace neutrino::compute {

// Tensor data need not be aligned for its element type (a quant block is 18 bytes), so every load is a copy.
template <typename T>
T load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}
inline float load_f16(const uint8_t* bytes) { return f16_to_f32(load<uint16_t>(bytes)); }

using BlockDequantizer = void (*)(const uint8_t* block, float* out);

void dequantize_q2_k(const uint8_t* block, float* out);
void dequantize_q3_k(const uint8_t* block, float* out);
void dequantize_q4_k(const uint8_t* block, float* out);
void dequantize_q5_k(const uint8_t* block, float* out);
void dequantize_q6_k(const uint8_t* block, float* out);
void dequantize_iq4_nl(const uint8_t* block, float* out);
void dequantize_iq4_xs(const uint8_t* block, float* out);
void dequantize_iq1_s(const uint8_t* block, float* out);
void dequantize_iq1_m(const uint8_t* block, float* out);
void dequantize_iq2_xxs(const uint8_t* block, float* out);
void dequantize_iq2_xs(const uint8_t* block, float* out);
void dequantize_iq2_s(const uint8_t* block, float* out);
void dequantize_iq3_xxs(const uint8_t* block, float* out);
void dequantize_iq3_s(const uint8_t* block, float* out);
void dequantize_tq1_0(const uint8_t* block, float* out);
void dequantize_tq2_0(const uint8_t* block, float* out);

// The 4-bit values of iq4_nl and iq4_xs: denser around zero, where weights are.
inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                          1,    13,   25,  38,  53,  69,  89,  113};

// The values of a 4-bit float (E2M1: sign, two bits of exponent, one of mantissa), doubled to be integers.
inline constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Sub-block j's 6-bit scale and minimum, of the 8 each that q4_k and q5_k pack into 12 bytes.
struct ScaleAndMin {
  int scale, min;
};
inline ScaleAndMin packed_scale(const uint8_t* packed, int j) {
  if (j < 4) return {packed[j] & 63, packed[j + 4] & 63};
  return {(packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4, (packed[j + 4] >> 4) | (packed[j] >> 6) << 4};
}

}  // namespace neutrino::compute
