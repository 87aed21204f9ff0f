// K types: 256 weights, cut into sub-blocks of 16 or 32 whose scales are integers of 4 to 8 bits, times one or two f16.
#include "compute/dequantize.h"

namespace neutrino::compute {
namespace {

// q2_k and q3_k: element `i`'s two bits. Each half of 128 has 32 bytes; bits 2k of byte l belong to element 32 k + l of the half.
int two_bits(const uint8_t* quants, int i) {
  const int half = i / 128, k = i % 128 / 32;
  return quants[32 * half + i % 32] >> 2 * k & 3;
}

}  // namespace

// uint8 scales[16] (low nibble: scale, high: minimum, per 16); uint8 q[64]; f16 d; f16 dmin.  w = d*scale*q - dmin*min
void dequantize_q2_k(const uint8_t* block, float* out) {
  const uint8_t* quants = block + 16;
  const float d = load_f16(block + 80), dmin = load_f16(block + 82);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(block[s] & 15), min = dmin * static_cast<float>(block[s] >> 4);
    for (int i = 16 * s; i < 16 * s + 16; ++i) out[i] = scale * static_cast<float>(two_bits(quants, i)) - min;
  }
}

// uint8 hmask[32]; uint8 q[64]; uint8 scales[12]; f16 d.  w = d*(scale-32)*(q - (high bit ? 0 : 4))
// Scale s has its low four bits in a nibble of bytes 0-7, its high two in bytes 8-11.
void dequantize_q3_k(const uint8_t* block, float* out) {
  const uint8_t *quants = block + 32, *packed = block + 96;
  const float d = load_f16(block + 108);
  for (int s = 0; s < 16; ++s) {
    const int low = packed[s % 8] >> 4 * (s / 8) & 15, high = packed[8 + s % 4] >> 2 * (s / 4) & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    for (int i = 16 * s; i < 16 * s + 16; ++i) {
      const int high_bit = block[i % 32] >> i / 32 & 1;
      out[i] = scale * static_cast<float>(two_bits(quants, i) - (high_bit ? 0 : 4));
    }
  }
}

// f16 d; f16 dmin; uint8 scales[12]; uint8 q[128].  w = d*scale*q - dmin*min, per 32
// Each 32 bytes of q hold two sub-blocks: the first in the low nibbles, the second in the high ones.
void dequantize_q4_k(const uint8_t* block, float* out) {
  const float d = load_f16(block), dmin = load_f16(block + 2);
  for (int s = 0; s < 8; ++s) {
    const auto [sc, m] = packed_scale(block + 4, s);
    const float scale = d * static_cast<float>(sc), min = dmin * static_cast<float>(m);
    const uint8_t* quants = block + 16 + s / 2 * 32;
    for (int l = 0; l < 32; ++l)
      out[32 * s + l] = scale * static_cast<float>(quants[l] >> 4 * (s % 2) & 15) - min;
  }
}

// f16 d; f16 dmin; uint8 scales[12]; uint8 qh[32]; uint8 q[128]. As q4_k, with bit s of qh[l] as the fifth bit.
void dequantize_q5_k(const uint8_t* block, float* out) {
  const float d = load_f16(block), dmin = load_f16(block + 2);
  const uint8_t* high = block + 16;
  for (int s = 0; s < 8; ++s) {
    const auto [sc, m] = packed_scale(block + 4, s);
    const float scale = d * static_cast<float>(sc), min = dmin * static_cast<float>(m);
    const uint8_t* quants = block + 48 + s / 2 * 32;
    for (int l = 0; l < 32; ++l) {
      const int q = (quants[l] >> 4 * (s % 2) & 15) | (high[l] >> s & 1) << 4;
      out[32 * s + l] = scale * static_cast<float>(q) - min;
    }
  }
}

// uint8 ql[128]; uint8 qh[64]; int8 scales[16]; f16 d.  w = d*scale*(q-32), per 16
// In each half of 128, quarter k's low nibbles stand in ql[l + 32 (k % 2)] (high nibbles for k >= 2), its high bits in bits 2k
// of qh[l].
void dequantize_q6_k(const uint8_t* block, float* out) {
  const float d = load_f16(block + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, k = i % 128 / 32, l = i % 32;
    const int low = block[64 * half + 32 * (k % 2) + l] >> 4 * (k / 2) & 15;
    const int high = block[128 + 32 * half + l] >> 2 * k & 3;
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + i / 16]));
    out[i] = scale * static_cast<float>((low | high << 4) - 32);
  }
}

}  // namespace neutrino::compute
