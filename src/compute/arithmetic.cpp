#include "compute/arithmetic.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cmath>

namespace neutrino::compute {

void set_float_mode() { _mm_setcsr(_mm_getcsr() | 0x8040); }

float exponential(float x) {
  x = kExpMin > x ? kExpMin : x;
  x = kExpMax < x ? kExpMax : x;
  const float rounded = std::fma(x, kLog2E, kRound);
  const float n = rounded - kRound;
  const float r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, x));
  float p = kExpCoefficients[0];
  for (int i = 1; i < 8; ++i) p = std::fma(p, r, kExpCoefficients[i]);
  // The low bits of `rounded` are n: shifted into the exponent field they make 2^n.
  return p * __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, rounded) + 127) << 23);
}

float silu_product(float gate, float up) { return gate / (1.0f + exponential(-gate)) * up; }

float sum_lanes(const float lanes[kLanes]) {
  float sum[kLanes];
  std::copy_n(lanes, kLanes, sum);
  for (int64_t step = kLanes / 2; step > 0; step /= 2)
    for (int64_t i = 0; i < step; ++i) sum[i] += sum[i + step];
  return sum[0];
}

float dot_float(const float* w, const float* x, int64_t n) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % kLanes] += w[i] * x[i];
  return sum_lanes(lanes);
}

void rms_norm_row(const float* x, const float* weight, float eps, int64_t n, float* out) {
  float lanes[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) lanes[i % kLanes] = std::fma(x[i], x[i], lanes[i % kLanes]);
  const float scale = 1.0f / std::sqrt(sum_lanes(lanes) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

// The maximum is taken over the bits, so that a NaN is larger than every number.
float quantize_row(const float* x, int64_t n, int16_t* out) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < n; ++i) bits = std::max(bits, __builtin_bit_cast(uint32_t, x[i]) & 0x7FFFFFFFu);
  const float largest = __builtin_bit_cast(float, bits);
  const bool finite = bits < 0x7F800000u;
  if (!finite || largest < kActivationTiny) {
    std::fill_n(out, n, int16_t{0});
    return finite ? 0.0f : __builtin_nanf("");
  }
  const float inverse = kActivationMax / largest;
  for (int64_t i = 0; i < n; ++i) out[i] = static_cast<int16_t>(std::lrintf(x[i] * inverse));
  return largest / kActivationMax;
}

}  // namespace neutrino::compute
