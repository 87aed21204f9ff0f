// The searches of quantize.h, over blocks of n values x (a multiple of 8) with the weights w of their errors.
//
// Sums run over eight lanes and then over a tree, so that the compiler may use vectors and the result is the same everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "compute/dequantize.h"

namespace neutrino::compute::fit {

// To the nearest integer, ties to even, for |v| < 2^22: what adding 1.5 * 2^23 leaves.
inline float round_near(float v) { return (v + 12582912.0f) - 12582912.0f; }

// The values that a quant can have, as floats.
template <int low, int high>
struct Integers {
  static constexpr float kLow = low, kHigh = high;
  static float nearest(float v) { return round_near(std::min(std::max(v, kLow), kHigh)); }
  static int code(float level) { return static_cast<int>(level) - low; }
};

// A table of sixteen: the level is the lowest one plus every step whose middle lies below v.
struct Iq4Levels {
  static constexpr float kLow = -127, kHigh = 113;
  static float nearest(float v) {
    float level = kIq4Values[0];
    for (int i = 0; i < 15; ++i) {
      const float middle = 0.5f * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]);
      level += v > middle ? static_cast<float>(kIq4Values[i + 1] - kIq4Values[i]) : 0.0f;
    }
    return level;
  }
  static int code(float level) {
    return static_cast<int>(std::find(kIq4Values, kIq4Values + 15, static_cast<int8_t>(level)) - kIq4Values);
  }
};

// A 4-bit float, doubled (kE2m1Doubled); its code has the sign on top.
struct E2m1Levels {
  static constexpr float kLow = -12, kHigh = 12;
  static float nearest(float v) {
    const float m = std::abs(v);
    float level = 0;
    for (int i = 0; i < 7; ++i) {
      const float middle = 0.5f * static_cast<float>(kE2m1Doubled[i] + kE2m1Doubled[i + 1]);
      level += m > middle ? static_cast<float>(kE2m1Doubled[i + 1] - kE2m1Doubled[i]) : 0.0f;
    }
    return v < 0 ? -level : level;
  }
  static int code(float level) {
    const auto magnitude = static_cast<int8_t>(std::abs(level));
    return static_cast<int>(std::find(kE2m1Doubled, kE2m1Doubled + 7, magnitude) - kE2m1Doubled) |
           (level < 0 ? 8 : 0);
  }
};

inline float sum8(const float* lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// How much an error in each value counts: the root of the mean square plus its magnitude. Errors in large weights change a model's
// output more than their squares say (q4_0 of SmolLM2 without these weights: 6 % more divergence), and a plain x^2 would
// sacrifice the small ones, of which there are many.
template <int n>
void importance(const float* x, float* w) {
  float lanes[8] = {};
  for (int i = 0; i < n; i += 8)
    for (int l = 0; l < 8; ++l) lanes[l] += x[i + l] * x[i + l];
  const float rms = std::sqrt(sum8(lanes) / n);
  for (int i = 0; i < n; ++i) w[i] = rms + std::abs(x[i]);
}

inline float largest_magnitude(const float* x, int n) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  return largest;
}

// sum w (x - level(x / d) d)^2. d = 0: sum w x^2.
template <class Levels, int n>
float scale_error(const float* x, const float* w, float d) {
  const float inverse = d == 0 ? 0 : 1 / d;
  float lanes[8] = {};
  for (int i = 0; i < n; i += 8)
    for (int l = 0; l < 8; ++l) {
      const float rest = x[i + l] - (d == 0 ? 0 : Levels::nearest(x[i + l] * inverse) * d);
      lanes[l] += w[i + l] * rest * rest;
    }
  return sum8(lanes);
}

struct ScaleSums {
  float xq, qq;
};
template <class Levels, int n>
ScaleSums scale_sums(const float* x, const float* w, float inverse) {
  float xq[8] = {}, qq[8] = {};
  for (int i = 0; i < n; i += 8)
    for (int l = 0; l < 8; ++l) {
      const float q = Levels::nearest(x[i + l] * inverse);
      const float wq = w[i + l] * q;
      xq[l] += x[i + l] * wq, qq[l] += q * wq;
    }
  return {sum8(xq), sum8(qq)};
}

// The scales tried: those that put the largest magnitude on `first`, `first` + `step`, ... (levels, of either sign).
struct Candidates {
  float first, step;
  int count;
};

// d such that d * q is nearest to x. The squared error left is sum w x^2 - xq^2 / qq, so the largest quotient wins; at the end
// the scale that its integers ask for gives integers again.
template <class Levels, int n>
float best_scale(const float* x, const float* w, std::initializer_list<Candidates> tried) {
  int largest = 0;
  for (int i = 1; i < n; ++i)
    if (std::abs(x[i]) > std::abs(x[largest])) largest = i;
  if (!(std::abs(x[largest]) > 1e-30f)) return 0;
  float best = 0, best_d = 0;
  const auto consider = [&](float inverse) {
    const ScaleSums sums = scale_sums<Levels, n>(x, w, inverse);
    if (sums.qq <= 0 || sums.xq * sums.xq <= best * sums.qq) return;
    best = sums.xq * sums.xq / sums.qq, best_d = sums.xq / sums.qq;
  };
  for (const Candidates& candidates : tried)
    for (int k = 0; k < candidates.count; ++k)
      consider((candidates.first + static_cast<float>(k) * candidates.step) / x[largest]);
  for (int again = 0; again < 2 && best_d != 0; ++again) consider(1 / best_d);
  return best_d;
}

// w = scale * q + offset, q = 0 ... high.
struct Line {
  float scale, offset;
};

template <int high, int n>
float line_error(const float* x, const float* w, Line line) {
  const float inverse = line.scale == 0 ? 0 : 1 / line.scale;
  float lanes[8] = {};
  for (int i = 0; i < n; i += 8)
    for (int l = 0; l < 8; ++l) {
      const float q = Integers<0, high>::nearest((x[i + l] - line.offset) * inverse);
      const float rest = x[i + l] - (line.scale * q + line.offset);
      lanes[l] += w[i + l] * rest * rest;
    }
  return sum8(lanes);
}

struct LineSums {
  float q, qq, xq;
};
template <int high, int n>
LineSums line_sums(const float* x, const float* w, Line line) {
  const float inverse = 1 / line.scale;
  float q_[8] = {}, qq[8] = {}, xq[8] = {};
  for (int i = 0; i < n; i += 8)
    for (int l = 0; l < 8; ++l) {
      const float q = Integers<0, high>::nearest((x[i + l] - line.offset) * inverse);
      const float wq = w[i + l] * q;
      q_[l] += wq, qq[l] += q * wq, xq[l] += x[i + l] * wq;
    }
  return {sum8(q_), sum8(qq), sum8(xq)};
}

enum class Offset { any, not_positive };  // the K types subtract a minimum that is not negative

// The least-squares line through (q, x), and the squared error that it leaves, less sum w x^2.
inline std::pair<Line, float> fitted_line(const LineSums& s, float sum_w, float sum_x, Offset allowed) {
  const float determinant = sum_w * s.qq - s.q * s.q;
  Line line{0, 0};
  if (determinant > 0) {
    line = {(sum_w * s.xq - sum_x * s.q) / determinant, (s.qq * sum_x - s.q * s.xq) / determinant};
    if (allowed == Offset::any || line.offset <= 0) return {line, -(line.scale * s.xq + line.offset * sum_x)};
  }
  line = {s.qq > 0 ? s.xq / s.qq : 0, 0};
  return {line, -line.scale * s.xq};
}

// The line nearest to x. Tried are lines whose ends lie at, a little inside and a little outside of the smallest and the
// largest value.
template <int high, int n>
Line best_line(const float* x, const float* w, Offset allowed) {
  float lanes_w[8] = {}, lanes_x[8] = {};
  for (int i = 0; i < n; i += 8)
    for (int l = 0; l < 8; ++l) lanes_w[l] += w[i + l], lanes_x[l] += w[i + l] * x[i + l];
  const float sum_w = sum8(lanes_w), sum_x = sum8(lanes_x);
  const auto [low_at, high_at] = std::minmax_element(x, x + n);
  const float low = allowed == Offset::any ? *low_at : std::min(*low_at, 0.0f), range = *high_at - low;
  if (!(range > 1e-30f)) return {0, low};
  Line best{range / high, low};
  float best_error = INFINITY;
  const auto consider = [&](Line line) {
    if (!(line.scale > 0)) return;
    const auto [fitted, error] = fitted_line(line_sums<high, n>(x, w, line), sum_w, sum_x, allowed);
    if (error < best_error && fitted.scale > 0) best = fitted, best_error = error;
  };
  // Ends inside of the range clip the outermost values and let the others lie closer; measured in steps of the scale.
  const float step = range / high;
  for (int cut_low = -1; cut_low <= 3; ++cut_low)
    for (int cut_high = -1; cut_high <= 3; ++cut_high) {
      const float a = 0.35f * static_cast<float>(cut_low), b = 0.35f * static_cast<float>(cut_high);
      const float offset = std::min(low + a * step, allowed == Offset::any ? INFINITY : 0.0f);
      consider({(*high_at - b * step - offset) / high, offset});
    }
  // Values that come from such a line, but not from both of its ends.
  for (int unused = 1; unused <= 2; ++unused) consider({range / static_cast<float>(high - unused), low});
  for (int again = 0; again < 3; ++again) consider(best);
  return best;
}

}  // namespace neutrino::compute::fit
