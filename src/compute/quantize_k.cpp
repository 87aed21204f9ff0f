// Blocks of 256 weights whose sub-blocks have integer scales.
//
// First each sub-block alone gets the real-valued scale (or line) that fits it best. Then the block's f16 scale is chosen so that
// the largest of them is its largest integer, the others are rounded, and in turns: each sub-block takes the best integers around
// its own with the f16 scale as it is; the f16 scale is fitted to all of the block with the integers as they are.
#include <cmath>
#include <cstring>

#include "compute/quantize_blocks.h"
#include "compute/quantize_fit.h"

namespace neutrino::compute {
namespace {

constexpr int kRounds = 3;

float store_f16(uint8_t* at, float value) {
  const uint16_t bits = f32_to_f16(value);
  std::memcpy(at, &bits, sizeof bits);
  return f16_to_f32(bits);
}
float as_f16(float value) { return f16_to_f32(f32_to_f16(value)); }

// ---- one integer scale per sub-block of n: q6_k, iq4_xs

// w = d * scale[s] * level
template <int n>
struct ScaledBlock {
  static constexpr int kParts = 256 / n;
  float d = 0;
  int scale[kParts] = {};
};

template <class Levels, int n>
int best_integer_scale(const float* x, const float* w, float d, int around, int low, int high) {
  int best = 0;
  float best_error = fit::scale_error<Levels, n>(x, w, 0);
  for (int scale = std::max(around - 1, low); scale <= std::min(around + 1, high); ++scale) {
    const float error = fit::scale_error<Levels, n>(x, w, d * static_cast<float>(scale));
    if (error < best_error) best = scale, best_error = error;
  }
  return best;
}

// The d that fits best to the scales and levels that it gives now.
template <class Levels, int n>
float refit(const float* x, const float* w, const ScaledBlock<n>& block) {
  float xq = 0, qq = 0;
  for (int s = 0; s < ScaledBlock<n>::kParts; ++s) {
    const float scale = block.d * static_cast<float>(block.scale[s]);
    if (scale == 0) continue;
    const auto sums = fit::scale_sums<Levels, n>(x + s * n, w + s * n, 1 / scale);
    const auto integer = static_cast<float>(block.scale[s]);
    xq += integer * sums.xq, qq += integer * integer * sums.qq;
  }
  return qq > 0 ? as_f16(xq / qq) : 0;
}

template <class Levels, int n>
float block_error(const float* x, const float* w, const ScaledBlock<n>& block) {
  float error = 0;
  for (int s = 0; s < ScaledBlock<n>::kParts; ++s)
    error += fit::scale_error<Levels, n>(x + s * n, w + s * n, block.d * static_cast<float>(block.scale[s]));
  return error;
}

// `low` and `high`: of the integer scales; the largest real scale is put on `low`, which reaches furthest.
template <class Levels, int n>
ScaledBlock<n> fit_scaled_block(const float* x, std::initializer_list<fit::Candidates> tried, int low,
                                int high) {
  constexpr int kParts = ScaledBlock<n>::kParts;
  float w[256], real[kParts], largest = 0;
  fit::scale_importance<Levels, 256>(x, w);
  for (int s = 0; s < kParts; ++s) {
    real[s] = fit::best_scale<Levels, n>(x + s * n, w + s * n, tried);
    if (std::abs(real[s]) > std::abs(largest)) largest = real[s];
  }
  ScaledBlock<n> best, block;
  float best_error = INFINITY;
  block.d = as_f16(largest / static_cast<float>(low));
  for (int round = 0; round < kRounds && block.d != 0; ++round) {
    for (int s = 0; s < kParts; ++s) {
      const float around = std::clamp(real[s] / block.d, static_cast<float>(low), static_cast<float>(high));
      block.scale[s] = best_integer_scale<Levels, n>(x + s * n, w + s * n, block.d,
                                                     static_cast<int>(std::lrint(around)), low, high);
    }
    const float error = block_error<Levels, n>(x, w, block);
    if (!(error < best_error)) break;
    best = block, best_error = error;
    block.d = refit<Levels, n>(x, w, block);
  }
  return best;
}

// ---- an integer scale and an integer minimum per sub-block of 32: q4_k, q5_k

// w = d * scale[s] * q - dmin * min[s]
struct LinedBlock {
  float d = 0, dmin = 0;
  int scale[8] = {}, min[8] = {};

  fit::Line line(int s) const {
    return {d * static_cast<float>(scale[s]), -dmin * static_cast<float>(min[s])};
  }
};

// Tries the integers around those that `real` asks for; returns the error.
template <int high>
float best_integers(const float* x, const float* w, const fit::Line& real, int s, LinedBlock& block) {
  const auto around = [](float value, float unit) {
    return unit == 0 ? 0 : static_cast<int>(std::lrint(std::clamp(value / unit, 0.0f, 63.0f)));
  };
  const int scale = around(real.scale, block.d), min = around(-real.offset, block.dmin);
  float best_error = INFINITY;
  LinedBlock trial = block;
  for (trial.scale[s] = std::max(scale - 1, 0); trial.scale[s] <= std::min(scale + 1, 63); ++trial.scale[s])
    for (trial.min[s] = std::max(min - 1, 0); trial.min[s] <= std::min(min + 1, 63); ++trial.min[s]) {
      const float error = fit::line_error<high, 32>(x, w, trial.line(s));
      if (!(error < best_error)) continue;
      best_error = error, block.scale[s] = trial.scale[s], block.min[s] = trial.min[s];
    }
  return best_error;
}

// d and dmin by least squares, the integers as they are: x = d A - dmin M with A = scale q and M = min.
template <int high>
void refit(const float* x, const float* w, LinedBlock& block) {
  float aa = 0, am = 0, mm = 0, xa = 0, xm = 0;
  for (int s = 0; s < 8; ++s) {
    const fit::Line line = block.line(s);
    float sum_w = 0, sum_x = 0;
    for (int i = 32 * s; i < 32 * s + 32; ++i) sum_w += w[i], sum_x += w[i] * x[i];
    const auto scale = static_cast<float>(block.scale[s]), min = static_cast<float>(block.min[s]);
    const auto sums =
        line.scale > 0 ? fit::line_sums<high, 32>(x + 32 * s, w + 32 * s, line) : fit::LineSums{0, 0, 0};
    aa += scale * scale * sums.qq, am += scale * min * sums.q, mm += sum_w * min * min;
    xa += scale * sums.xq, xm += min * sum_x;
  }
  const float determinant = aa * mm - am * am;
  if (!(determinant > 1e-6f * aa * mm)) return;
  const float d = (mm * xa - am * xm) / determinant, dmin = (am * xa - aa * xm) / determinant;
  if (d > 0 && dmin >= 0) block.d = as_f16(d), block.dmin = as_f16(dmin);
}

template <int high>
LinedBlock fit_lined_block(const float* x) {
  float w[256];
  fit::importance<256>(x, w);
  fit::Line real[8];
  float scale = 0, min = 0;
  for (int s = 0; s < 8; ++s) {
    real[s] = fit::best_line<high, 32>(x + 32 * s, w + 32 * s, fit::Offset::not_positive);
    scale = std::max(scale, real[s].scale), min = std::max(min, -real[s].offset);
  }
  LinedBlock best, block;
  block.d = as_f16(scale / 63), block.dmin = as_f16(min / 63);
  float best_error = INFINITY;
  for (int round = 0; round < kRounds; ++round) {
    float error = 0;
    for (int s = 0; s < 8; ++s) error += best_integers<high>(x + 32 * s, w + 32 * s, real[s], s, block);
    if (!(error < best_error)) break;
    best = block, best_error = error;
    refit<high>(x, w, block);
  }
  return best;
}

void pack_scales(const LinedBlock& block, uint8_t* packed) {
  for (int s = 0; s < 4; ++s) {
    packed[s] = static_cast<uint8_t>(block.scale[s] | block.scale[s + 4] >> 4 << 6);
    packed[s + 4] = static_cast<uint8_t>(block.min[s] | block.min[s + 4] >> 4 << 6);
    packed[s + 8] = static_cast<uint8_t>((block.scale[s + 4] & 15) | (block.min[s + 4] & 15) << 4);
  }
}

// Stores d, dmin and the scales of a q4_k or q5_k block; `codes` are the nearest to what a reader will see.
template <int high>
void quantize_lines(const float* x, uint8_t* out, int* codes) {
  const LinedBlock block = fit_lined_block<high>(x);
  store_f16(out, block.d), store_f16(out + 2, block.dmin);
  pack_scales(block, out + 4);
  for (int i = 0; i < 256; ++i) {
    const fit::Line line = block.line(i / 32);
    const float inverse = fit::inverse_of(line.scale);
    codes[i] = static_cast<int>(fit::Integers<0, high>::nearest((x[i] - line.offset) * inverse));
  }
}

// Sub-blocks 2k and 2k + 1 share 32 bytes: low and high nibbles.
void store_k_nibbles(const int* codes, uint8_t* out) {
  for (int i = 0; i < 128; ++i) {
    const int first = i / 32 * 64 + i % 32;
    out[i] = static_cast<uint8_t>((codes[first] & 15) | (codes[first + 32] & 15) << 4);
  }
}

}  // namespace

void quantize_q4_k(const float* x, uint8_t* block) {
  int codes[256];
  quantize_lines<15>(x, block, codes);
  store_k_nibbles(codes, block + 16);
}

void quantize_q5_k(const float* x, uint8_t* block) {
  int codes[256];
  quantize_lines<31>(x, block, codes);
  std::memset(block + 16, 0, 32);
  for (int i = 0; i < 256; ++i)
    block[16 + i % 32] = static_cast<uint8_t>(block[16 + i % 32] | codes[i] >> 4 << i / 32);
  store_k_nibbles(codes, block + 48);
}

void quantize_q6_k(const float* x, uint8_t* out) {
  using Levels = fit::Integers<-32, 31>;
  const auto block = fit_scaled_block<Levels, 16>(x, {{-33.0f, 0.15f, 30}, {28.0f, 0.15f, 25}}, -128, 127);
  std::memset(out, 0, 192);
  for (int i = 0; i < 256; ++i) {
    const float scale = block.d * static_cast<float>(block.scale[i / 16]);
    const int code = Levels::code(Levels::nearest(scale == 0 ? 0 : x[i] / scale));
    const int half = i / 128, k = i % 128 / 32, l = i % 32;
    uint8_t& low = out[64 * half + 32 * (k % 2) + l];
    uint8_t& high = out[128 + 32 * half + l];
    low = static_cast<uint8_t>(low | (code & 15) << 4 * (k / 2));
    high = static_cast<uint8_t>(high | code >> 4 << 2 * k);
  }
  for (int s = 0; s < 16; ++s) out[192 + s] = static_cast<uint8_t>(static_cast<int8_t>(block.scale[s]));
  store_f16(out + 208, block.d);
}

void quantize_iq4_xs(const float* x, uint8_t* out) {
  using Levels = fit::Iq4Levels;
  const auto block = fit_scaled_block<Levels, 32>(x, {{-140.0f, 2.0f, 30}, {80.0f, 2.0f, 30}}, -32, 31);
  std::memset(out, 0, 8);
  store_f16(out, block.d);
  uint16_t high = 0;
  for (int s = 0; s < 8; ++s) {
    const int code = block.scale[s] + 32;
    high = static_cast<uint16_t>(high | code >> 4 << 2 * s);
    out[4 + s / 2] = static_cast<uint8_t>(out[4 + s / 2] | (code & 15) << 4 * (s % 2));
    const float scale = block.d * static_cast<float>(block.scale[s]), inverse = fit::inverse_of(scale);
    const float* part = x + 32 * s;
    for (int j = 0; j < 16; ++j)
      out[8 + 16 * s + j] = static_cast<uint8_t>(Levels::code(Levels::nearest(part[j] * inverse)) |
                                                 Levels::code(Levels::nearest(part[j + 16] * inverse)) << 4);
  }
  std::memcpy(out + 2, &high, sizeof high);
}

}  // namespace neutrino::compute
