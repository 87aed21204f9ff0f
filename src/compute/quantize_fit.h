// The searches of quantize.h, over blocks of n values x (a multiple of 8) with the weights w of their errors.
//
// Sums run over eight lanes, in vectors that every x86-64 has, and then over a tree: the result is the same everywhere.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "compute/dequantize.h"

namespace neutrino::compute::fit {

using Lanes = float __attribute__((vector_size(16)));

inline Lanes load_lanes(const float* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof lanes);
  return lanes;
}

// Eight lanes, of which element i of a block belongs to lane i % 8.
struct Sum {
  Lanes halves[2] = {};

  float total() const {
    const Lanes sum = halves[0] + halves[1];
    return (sum[0] + sum[2]) + (sum[1] + sum[3]);
  }
};

// f(at, half) for every four elements.
template <int n, typename F>
void for_lanes(F&& f) {
  static_assert(n % 8 == 0);
  for (int i = 0; i < n; i += 8) f(i, 0), f(i + 4, 1);
}

// T is float or Lanes. `T{} + value` is the value in every lane.
template <typename T>
T at_least(T v, float low) {
  return v < T{} + low ? T{} + low : v;
}
template <typename T>
T at_most(T v, float high) {
  return v > T{} + high ? T{} + high : v;
}

// The values that a quant can have. nearest(): for |v| < 2^22 adding 1.5 * 2^23 leaves the nearest integer, ties to even.
template <int low, int high>
struct Integers {
  static constexpr bool kLargeCountMore = false;
  template <typename T>
  static T nearest(T v) {
    return (at_most(at_least(v, low), high) + 12582912.0f) - 12582912.0f;
  }
  static int code(float level) { return static_cast<int>(level) - low; }
};

// Tables of levels: the nearest is the lowest one plus every step whose middle lies below v.
template <typename T>
T climb(const int8_t* levels, int count, T v) {
  T level = T{} + static_cast<float>(levels[0]);
  for (int i = 0; i + 1 < count; ++i) {
    const float middle = 0.5f * static_cast<float>(levels[i] + levels[i + 1]);
    level += v > T{} + middle ? T{} + static_cast<float>(levels[i + 1] - levels[i]) : T{};
  }
  return level;
}

struct Iq4Levels {
  static constexpr bool kLargeCountMore = true;
  template <typename T>
  static T nearest(T v) {
    return climb(kIq4Values, 16, v);
  }
  static int code(float level) {
    return static_cast<int>(std::find(kIq4Values, kIq4Values + 15, static_cast<int8_t>(level)) - kIq4Values);
  }
};

// A 4-bit float, doubled (kE2m1Doubled); its code has the sign on top.
struct E2m1Levels {
  static constexpr bool kLargeCountMore = false;
  template <typename T>
  static T nearest(T v) {
    const T level = climb(kE2m1Doubled, 8, v < T{} ? -v : v);
    return v < T{} ? -level : level;
  }
  static int code(float level) {
    const auto magnitude = static_cast<int8_t>(std::abs(level));
    return static_cast<int>(std::find(kE2m1Doubled, kE2m1Doubled + 7, magnitude) - kE2m1Doubled) |
           (level < 0 ? 8 : 0);
  }
};

template <int n>
float mean_square(const float* x) {
  Sum squares;
  for_lanes<n>([&](int i, int half) { squares.halves[half] += load_lanes(x + i) * load_lanes(x + i); });
  return squares.total() / n;
}

// How much an error in each value counts: the root of the mean square plus its magnitude. Errors in large weights change a model's
// output more than their squares say (q4_0 of SmolLM2 without these weights: 6 % more divergence), and a plain x^2 would
// sacrifice the small ones, of which there are many.
template <int n>
void importance(const float* x, float* w) {
  const float rms = std::sqrt(mean_square<n>(x));
  for (int i = 0; i < n; ++i) w[i] = rms + std::abs(x[i]);
}

// The same for the scales of `Levels`. Where the levels lie far apart at the ends (iq4) large weights have the largest errors, and
// both terms are squared (iq4_nl of SmolLM2: 8 % less divergence).
template <class Levels, int n>
void scale_importance(const float* x, float* w) {
  const float mean = mean_square<n>(x), rms = std::sqrt(mean);
  for (int i = 0; i < n; ++i) w[i] = Levels::kLargeCountMore ? mean + x[i] * x[i] : rms + std::abs(x[i]);
}

inline float largest_magnitude(const float* x, int n) {
  float largest = 0;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i]));
  return largest;
}

inline float inverse_of(float d) { return d == 0 ? 0 : 1 / d; }

// sum w (x - level(x / d) d)^2. d = 0: sum w x^2.
template <class Levels, int n>
float scale_error(const float* x, const float* w, float d) {
  const float inverse = inverse_of(d);
  Sum error;
  for_lanes<n>([&](int i, int half) {
    const Lanes value = load_lanes(x + i), rest = value - Levels::nearest(value * inverse) * d;
    error.halves[half] += load_lanes(w + i) * rest * rest;
  });
  return error.total();
}

struct ScaleSums {
  float xq, qq;
};
template <class Levels, int n>
ScaleSums scale_sums(const float* x, const float* w, float inverse) {
  Sum xq, qq;
  for_lanes<n>([&](int i, int half) {
    const Lanes value = load_lanes(x + i), q = Levels::nearest(value * inverse), wq = load_lanes(w + i) * q;
    xq.halves[half] += value * wq, qq.halves[half] += q * wq;
  });
  return {xq.total(), qq.total()};
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
  const float inverse = inverse_of(line.scale);
  Sum error;
  for_lanes<n>([&](int i, int half) {
    const Lanes value = load_lanes(x + i), q = Integers<0, high>::nearest((value - line.offset) * inverse),
                rest = value - (line.scale * q + line.offset);
    error.halves[half] += load_lanes(w + i) * rest * rest;
  });
  return error.total();
}

struct LineSums {
  float q, qq, xq;
};
template <int high, int n>
LineSums line_sums(const float* x, const float* w, Line line) {
  const float inverse = 1 / line.scale;
  Sum q_sum, qq, xq;
  for_lanes<n>([&](int i, int half) {
    const Lanes value = load_lanes(x + i), q = Integers<0, high>::nearest((value - line.offset) * inverse),
                wq = load_lanes(w + i) * q;
    q_sum.halves[half] += wq, qq.halves[half] += q * wq, xq.halves[half] += value * wq;
  });
  return {q_sum.total(), qq.total(), xq.total()};
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
  Sum ws, xs;
  for_lanes<n>([&](int i, int half) {
    ws.halves[half] += load_lanes(w + i), xs.halves[half] += load_lanes(w + i) * load_lanes(x + i);
  });
  const float sum_w = ws.total(), sum_x = xs.total();
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
