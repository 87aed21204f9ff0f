#include "compute/arithmetic.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace neutrino::compute {
namespace {

template <size_t terms>
float horner(const float (&coefficients)[terms], float x) {
  float p = coefficients[0];
  for (size_t i = 1; i < terms; ++i) p = std::fma(p, x, coefficients[i]);
  return p;
}

}  // namespace

void set_float_mode() { _mm_setcsr(_mm_getcsr() | 0x8040); }

float exponential(float x) {
  x = kExpMin > x ? kExpMin : x;
  x = kExpMax < x ? kExpMax : x;
  const float rounded = std::fma(x, kLog2E, kRound);
  const float n = rounded - kRound;
  const float r = std::fma(-n, kLn2Low, std::fma(-n, kLn2High, x));
  const float p = horner(kExpCoefficients, r);
  // The low bits of `rounded` are n: shifted into the exponent field they make 2^n.
  return p * __builtin_bit_cast(float, (__builtin_bit_cast(uint32_t, rounded) + 127) << 23);
}

float silu_product(float gate, float up) { return gate / (1.0f + exponential(-gate)) * up; }

float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

float hyperbolic_tangent(float x) {
  const float z = x * x;
  const float small = std::fma(x * z, horner(kTanhCoefficients, z), x);
  const float e = exponential(-2.0f * std::fabs(x));
  const float large = std::copysign((1.0f - e) / (1.0f + e), x);
  return std::fabs(x) < kTanhSmall ? small : large;
}

float gelu_tanh(float x) {
  const float inner = kGeluRoot * std::fma(kGeluCube * x * x, x, x);
  return 0.5f * x * (1.0f + hyperbolic_tangent(inner));
}

// exp(-t^2/2) of the rounded square, corrected by what the rounding left over.
float gelu_erf(float x) {
  const float t = std::fabs(x) > kTailMax ? kTailMax : std::fabs(x);
  const float square = t * t, rest = std::fma(t, t, -square);
  const float e = exponential(-0.5f * square);
  const float tail =
      horner(kTailCoefficients, 1.0f / std::fma(kTailStep, t, 1.0f)) * std::fma(-0.5f * rest, e, e);
  return x * (x < 0 ? tail : 1.0f - tail);
}

float softplus(float x) {
  const float y = exponential(-std::fabs(x));
  const float s = y / (2.0f + y);
  return (x > 0 ? x : 0.0f) + s * horner(kLog1pCoefficients, s * s);
}

float softcap_value(float x, float cap) { return cap * hyperbolic_tangent(x / cap); }

float apply_function(Function function, float x) {
  switch (function) {
    case Function::silu: return silu_product(x, 1.0f);
    case Function::gelu_tanh: return gelu_tanh(x);
    case Function::gelu_erf: return gelu_erf(x);
    case Function::relu_squared: return x < 0 ? 0.0f : x * x;
    case Function::sigmoid: return sigmoid(x);
    case Function::tanh: return hyperbolic_tangent(x);
    case Function::swiglu_oai: break;
  }
  check(false, "swiglu_oai is a function of gate and up");
  return 0;
}

float gate_product(Function function, float gate, float up) {
  if (function == Function::silu) return silu_product(gate, up);
  if (function != Function::swiglu_oai) return apply_function(function, gate) * up;
  const float g = gate > kSwigluLimit ? kSwigluLimit : gate;
  const float u = up > kSwigluLimit ? kSwigluLimit : up < -kSwigluLimit ? -kSwigluLimit : up;
  return g / (1.0f + exponential(-(kSwigluSteepness * g))) * (u + 1.0f);
}

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

void layer_norm_row(const float* x, const float* weight, const float* bias, float eps, int64_t n,
                    float* out) {
  float sums[kLanes] = {}, squares[kLanes] = {};
  for (int64_t i = 0; i < n; ++i) sums[i % kLanes] += x[i];
  const float mean = sum_lanes(sums) / static_cast<float>(n);
  for (int64_t i = 0; i < n; ++i) {
    const float centred = x[i] - mean;
    squares[i % kLanes] = std::fma(centred, centred, squares[i % kLanes]);
  }
  const float scale = 1.0f / std::sqrt(sum_lanes(squares) / static_cast<float>(n) + eps);
  for (int64_t i = 0; i < n; ++i) {
    const float normed = (x[i] - mean) * scale * weight[i];
    out[i] = bias == nullptr ? normed : normed + bias[i];
  }
}

void decay_state(const StateTask& task, float decay, const float* k, float* y) {
  std::fill_n(y, task.width, 0.0f);
  for (int64_t i = 0; i < task.rows; ++i) {
    float* s = task.state + i * task.width;
    for (int64_t p = 0; p < task.width; ++p) {
      s[p] *= decay;
      y[p] += s[p] * k[i];
    }
  }
}

void update_state(const StateTask& task, const float* k, const float* u, const float* q, float* y) {
  std::fill_n(y, task.width, 0.0f);
  for (int64_t i = 0; i < task.rows; ++i) {
    float* s = task.state + i * task.width;
    for (int64_t p = 0; p < task.width; ++p) {
      s[p] += k[i] * u[p];
      y[p] += s[p] * q[i];
    }
  }
}

void scan_state(const StateTask& task, const ScanInput& input, float* y) {
  std::fill_n(y, task.width, 0.0f);
  for (int64_t n = 0; n < task.rows; ++n) {
    const float factor = input.step * input.b[n];
    float* s = task.state + n * task.width;
    for (int64_t p = 0; p < task.width; ++p) {
      s[p] = s[p] * input.decay + input.x[p] * factor;
      y[p] += s[p] * input.c[n];
    }
  }
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
