// IQ types. iq4_nl and iq4_xs look each weight up in a table of 16 values. The others look up 8 or 4 weights at once: the index
// names a point of a codebook (codebooks.inl), whose coordinates are a few magnitudes; signs stand beside it.
#include <bit>

#include "compute/dequantize.h"

namespace neutrino::compute {
namespace {

#include "compute/codebooks.inl"

void dequantize_iq4_nibbles(const uint8_t* nibbles, float scale, float* out) {
  for (int j = 0; j < 16; ++j) {
    out[j] = scale * static_cast<float>(kIq4Values[nibbles[j] & 15]);
    out[j + 16] = scale * static_cast<float>(kIq4Values[nibbles[j] >> 4]);
  }
}

constexpr float kIq2Values[] = {8, 25, 43};
constexpr float kIq3XxsValues[] = {4, 12, 20, 28, 36, 44, 52, 62};

// Seven sign bits are stored; the eighth makes their number even.
uint8_t signs_of(uint32_t seven) {
  return static_cast<uint8_t>(seven | uint32_t(std::popcount(seven) & 1) << 7);
}

float sign(uint8_t signs, int i) { return signs >> i & 1 ? -1.0f : 1.0f; }

void take_iq2_point(uint16_t point, uint8_t signs, float scale, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = scale * kIq2Values[point >> 2 * i & 3] * sign(signs, i);
}

// `signs`: of these four weights, from its lowest bit.
void take_iq3_xxs_point(uint16_t point, uint8_t signs, float scale, float* out) {
  for (int i = 0; i < 4; ++i) out[i] = scale * kIq3XxsValues[point >> 4 * i & 7] * sign(signs, i);
}

void take_iq3_s_point(uint16_t point, uint8_t signs, float scale, float* out) {
  for (int i = 0; i < 4; ++i)
    out[i] = scale * static_cast<float>(2 * (point >> 4 * i & 7) + 1) * sign(signs, i);
}

void take_iq1_point(uint16_t point, float delta, float scale, float* out) {
  for (int i = 0; i < 8; ++i) out[i] = scale * (static_cast<float>((point >> 2 * i & 3) - 1) + delta);
}

constexpr float kIq1Delta = 0.125f;

float iq2_scale(float d, int bits) { return d * (0.5f + static_cast<float>(bits)) * 0.25f; }

}  // namespace

// f16 d; uint8 q[16]
void dequantize_iq4_nl(const uint8_t* block, float* out) {
  dequantize_iq4_nibbles(block + 2, load_f16(block), out);
}

// f16 d; uint16 scales_h; uint8 scales_l[4]; uint8 q[128].  w = d*(scale-32)*value, per 32
void dequantize_iq4_xs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  const int high = load<uint16_t>(block + 2);
  for (int s = 0; s < 8; ++s) {
    const int scale = (block[4 + s / 2] >> 4 * (s % 2) & 15) | (high >> 2 * s & 3) << 4;
    dequantize_iq4_nibbles(block + 8 + 16 * s, d * static_cast<float>(scale - 32), out + 32 * s);
  }
}

// f16 d; per 32: uint8 index[4]; uint32 of four times seven sign bits and a scale on top
void dequantize_iq2_xxs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int s = 0; s < 8; ++s) {
    const uint8_t* part = block + 2 + 8 * s;
    const auto bits = load<uint32_t>(part + 4);
    const float scale = iq2_scale(d, static_cast<int>(bits >> 28));
    for (int g = 0; g < 4; ++g)
      take_iq2_point(kIq2XxsGrid[part[g]], signs_of(bits >> 7 * g & 127), scale, out + 32 * s + 8 * g);
  }
}

// f16 d; uint16 q[32] (nine bits of index, seven of sign); uint8 scales[8], a nibble per 16
void dequantize_iq2_xs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int g = 0; g < 32; ++g) {
    const auto bits = load<uint16_t>(block + 2 + 2 * g);
    const float scale = iq2_scale(d, block[66 + g / 4] >> 4 * (g / 2 % 2) & 15);
    take_iq2_point(kIq2XsGrid[bits & 511], signs_of(bits >> 9), scale, out + 8 * g);
  }
}

// f16 d; uint8 q[32]; uint8 signs[32]; uint8 qh[8] (two more bits of index per group of 8); uint8 scales[8]
void dequantize_iq2_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int g = 0; g < 32; ++g) {
    const int index = block[2 + g] | (block[66 + g / 4] >> 2 * (g % 4) & 3) << 8;
    const float scale = iq2_scale(d, block[74 + g / 4] >> 4 * (g / 2 % 2) & 15);
    take_iq2_point(kIq2SGrid[index], block[34 + g], scale, out + 8 * g);
  }
}

// f16 d; uint8 q[64], a point of four weights each; uint32 per 32: four times seven sign bits and a scale on top
void dequantize_iq3_xxs(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int g = 0; g < 64; ++g) {
    const auto bits = load<uint32_t>(block + 66 + 4 * (g / 8));
    const float scale = d * (0.5f + static_cast<float>(bits >> 28)) * 0.5f;
    const uint8_t signs = signs_of(bits >> 7 * (g / 2 % 4) & 127);
    take_iq3_xxs_point(kIq3XxsGrid[block[2 + g]], static_cast<uint8_t>(signs >> 4 * (g % 2)), scale,
                       out + 4 * g);
  }
}

// f16 d; uint8 q[64]; uint8 qh[8] (a ninth bit of index each); uint8 signs[32]; uint8 scales[4], a nibble per 32
void dequantize_iq3_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int g = 0; g < 64; ++g) {
    const int index = block[2 + g] | (block[66 + g / 8] >> g % 8 & 1) << 8;
    const float scale = d * static_cast<float>(1 + 2 * (block[106 + g / 16] >> 4 * (g / 8 % 2) & 15));
    take_iq3_s_point(kIq3SGrid[index], static_cast<uint8_t>(block[74 + g / 2] >> 4 * (g % 2)), scale,
                     out + 4 * g);
  }
}

// f16 d; uint8 q[32]; uint16 qh[8] per 32: four times three bits of index, three of scale, the sign of the shift
void dequantize_iq1_s(const uint8_t* block, float* out) {
  const float d = load_f16(block);
  for (int g = 0; g < 32; ++g) {
    const int high = load<uint16_t>(block + 34 + 2 * (g / 4));
    const float scale = d * static_cast<float>(2 * (high >> 12 & 7) + 1);
    const int index = block[2 + g] | (high >> 3 * (g % 4) & 7) << 8;
    take_iq1_point(kIq1Grid[index], high & 0x8000 ? -kIq1Delta : kIq1Delta, scale, out + 8 * g);
  }
}

// uint8 q[32]; uint8 qh[16] (a nibble per 8: three bits of index, the sign of the shift); uint16 scales[4]: four times three
// bits each, one per 16, and in the top four bits of each a quarter of the f16 d
void dequantize_iq1_m(const uint8_t* block, float* out) {
  uint32_t d_bits = 0;
  for (int i = 0; i < 4; ++i) d_bits |= uint32_t(load<uint16_t>(block + 48 + 2 * i) >> 12) << 4 * i;
  const float d = f16_to_f32(static_cast<uint16_t>(d_bits));
  for (int g = 0; g < 32; ++g) {
    const int scales = load<uint16_t>(block + 48 + 2 * (g / 8)), high = block[32 + g / 2] >> 4 * (g % 2);
    const float scale = d * static_cast<float>(2 * (scales >> 3 * (g / 2 % 4) & 7) + 1);
    const int index = block[g] | (high & 7) << 8;
    take_iq1_point(kIq1Grid[index], high & 8 ? -kIq1Delta : kIq1Delta, scale, out + 8 * g);
  }
}

}  // namespace neutrino::compute
