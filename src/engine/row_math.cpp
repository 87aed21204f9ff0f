#include "engine/row_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace neutrino::engine {
namespace {

using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));
using Double2 = double __attribute__((vector_size(16)));
constexpr size_t kLanes = 16;  // 4 x Float4

inline Float4 load(const float* from) {
  Float4 value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline Float4 broadcast(float x) { return Float4{x, x, x, x}; }

// exp(x) = 2^n exp(r) with |r| <= ln(2)/2: ln(2) in two parts keeps r exact, and a polynomial of degree 6 (Taylor's
// coefficients, adjusted at the end by the interval being small) gives exp(r). Adding 1.5 * 2^23 rounds to an integer.
inline Float4 exp4(Float4 x) {
  const Float4 rounder = broadcast(12582912.0F);
  const Float4 shifted = x * broadcast(1.44269504F) + rounder;
  const Float4 n = shifted - rounder;
  const Float4 r = (x - n * broadcast(0.693359375F)) - n * broadcast(-2.12194440e-4F);
  Float4 p = broadcast(1.3888889e-3F);
  p = p * r + broadcast(8.3333333e-3F);
  p = p * r + broadcast(4.1666668e-2F);
  p = p * r + broadcast(1.6666667e-1F);
  p = p * r + broadcast(0.5F);
  p = p * r + broadcast(1.0F);
  p = p * r + broadcast(1.0F);
  const Int4 exponent = std::bit_cast<Int4>(shifted) << 23;  // n in the low bits of the shifted number
  const Float4 result = std::bit_cast<Float4>(std::bit_cast<Int4>(p) + exponent);
  return x < broadcast(-87.0F) ? broadcast(0.0F) : result;
}

inline float largest(const std::array<Float4, 4>& lanes) {
  float maximum = lanes[0][0];
  for (const Float4& vector : lanes)
    for (int i = 0; i < 4; ++i) maximum = vector[i] > maximum ? vector[i] : maximum;
  return maximum;
}

inline double sum(const std::array<Float4, 4>& lanes) {
  double total = 0;
  for (const Float4& vector : lanes)
    total += (static_cast<double>(vector[0]) + static_cast<double>(vector[1])) +
             (static_cast<double>(vector[2]) + static_cast<double>(vector[3]));
  return total;
}

// The last elements of a row, padded with -infinity, whose exponential is zero.
std::array<float, kLanes> padded_tail(std::span<const float> row) {
  std::array<float, kLanes> tail;
  tail.fill(-std::numeric_limits<float>::infinity());
  const size_t rest = row.size() % kLanes;
  std::memcpy(tail.data(), row.data() + row.size() - rest, rest * sizeof(float));
  return tail;
}

template <bool keep>
void sum_exponentials(std::span<const float> row, float maximum, float scale, double* sums, float* terms) {
  const Float4 top = broadcast(maximum), factor = broadcast(scale);
  const size_t whole = row.size() - row.size() % kLanes;
  for (size_t begin = 0; begin < whole; begin += kSumRun) {
    std::array<Float4, 4> lanes{};
    const size_t end = std::min(whole, begin + kSumRun);
    for (size_t i = begin; i < end; i += kLanes) {
      for (size_t j = 0; j < 4; ++j) {
        const Float4 term = exp4((load(row.data() + i + 4 * j) - top) * factor);
        lanes[j] += term;
        if constexpr (keep) std::memcpy(terms + i + 4 * j, &term, sizeof term);
      }
    }
    *sums++ = sum(lanes);
  }
  if (whole == row.size()) return;
  const auto tail = padded_tail(row);
  std::array<Float4, 4> lanes;
  for (size_t j = 0; j < 4; ++j) lanes[j] = exp4((load(tail.data() + 4 * j) - top) * factor);
  if constexpr (keep) std::memcpy(terms + whole, lanes.data(), (row.size() - whole) * sizeof(float));
  *sums = sum(lanes);
}

}  // namespace

RowExtent row_extent(std::span<const float> row) {
  std::array<Float4, 4> maxima, zeros{};
  maxima.fill(broadcast(-std::numeric_limits<float>::infinity()));
  const size_t whole = row.size() - row.size() % kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (size_t j = 0; j < 4; ++j) {
      const Float4 x = load(row.data() + i + 4 * j);
      maxima[j] = x > maxima[j] ? x : maxima[j];
      zeros[j] += x * broadcast(0.0F);  // NaN as soon as one x is NaN or infinite
    }
  }
  RowExtent extent{.maximum = largest(maxima), .finite = sum(zeros) == 0};
  for (size_t i = whole; i < row.size(); ++i) {
    extent.maximum = row[i] > extent.maximum ? row[i] : extent.maximum;
    extent.finite = extent.finite && std::isfinite(row[i]);
  }
  return extent;
}

void exponentials(std::span<const float> row, float maximum, float scale, std::span<double> sums,
                  std::span<float> terms) {
  check(sums.size() * kSumRun >= row.size(), "exponentials: a sum for each run");
  if (terms.empty())
    sum_exponentials<false>(row, maximum, scale, sums.data(), nullptr);
  else
    sum_exponentials<true>(row, maximum, scale, sums.data(), terms.data());
}

void add_to_tiers(std::span<const float> weights, std::span<WeightTier> tiers) {
  for (WeightTier& tier : tiers) {
    const Float4 least = broadcast(tier.least);
    std::array<Float4, 4> masses{};
    std::array<Int4, 4> counts{};
    const size_t whole = weights.size() - weights.size() % kLanes;
    for (size_t i = 0; i < whole; i += kLanes)
      for (size_t j = 0; j < 4; ++j) {
        const Float4 weight = load(weights.data() + i + 4 * j);
        const Int4 in = weight >= least;
        counts[j] -= in;
        masses[j] += std::bit_cast<Float4>(std::bit_cast<Int4>(weight) & in);
      }
    tier.mass += sum(masses);
    for (const Int4& lanes : counts)
      for (int j = 0; j < 4; ++j) tier.count += lanes[j];
    for (size_t i = whole; i < weights.size(); ++i)
      if (weights[i] >= tier.least) ++tier.count, tier.mass += static_cast<double>(weights[i]);
  }
}

double sum_in_double(std::span<const float> terms) {
  std::array<Double2, 4> lanes{};
  const size_t whole = terms.size() - terms.size() % 8;
  for (size_t i = 0; i < whole; i += 8)
    for (size_t j = 0; j < 4; ++j)
      lanes[j] += Double2{static_cast<double>(terms[i + 2 * j]), static_cast<double>(terms[i + 2 * j + 1])};
  double total = 0;
  for (const Double2& lane : lanes) total += lane[0] + lane[1];
  for (size_t i = whole; i < terms.size(); ++i) total += static_cast<double>(terms[i]);
  return total;
}

double sum_in_lanes(std::span<const float> terms) {
  std::array<Float4, 4> lanes{};
  for (size_t i = 0; i + kLanes <= terms.size(); i += kLanes)
    for (size_t j = 0; j < 4; ++j) lanes[j] += load(terms.data() + i + 4 * j);
  double total = 0;
  for (const Float4& lane : lanes)
    for (int i = 0; i < 4; ++i) total += static_cast<double>(lane[i]);
  return total;
}

namespace {

// The next index from `i` on, a multiple of sixteen further, where one of the sixteen elements compares so; or where fewer than sixteen
// are left.
template <typename Compare>
size_t skip(std::span<const float> row, size_t i, Compare compare) {
  for (; i + kLanes <= row.size(); i += kLanes) {
    Int4 found{};
    for (size_t j = 0; j < 4; ++j) found |= compare(load(row.data() + i + 4 * j));
    const auto halves = std::bit_cast<std::array<uint64_t, 2>>(found);
    if ((halves[0] | halves[1]) != 0) break;
  }
  return i;
}

// Keeps `best` sorted; ids arrive in ascending order, so an equal value goes behind.
void insert(std::span<chat::TokenLogprob> best, chat::TokenLogprob entry) {
  size_t at = best.size();
  for (; at > 0 && best[at - 1].logprob < entry.logprob; --at)
    if (at < best.size()) best[at] = best[at - 1];
  if (at < best.size()) best[at] = entry;
}

}  // namespace

int32_t first_equal(std::span<const float> row, float value) {
  const Float4 wanted = broadcast(value);
  size_t i = skip(row, 0, [&](Float4 x) { return x == wanted; });
  while (i < row.size() && row[i] != value) ++i;
  return static_cast<int32_t>(i);
}

size_t take_at_least(std::span<const float> row, int32_t first, float least, std::span<Candidate> out) {
  const Float4 bound = broadcast(least);
  size_t taken = 0;
  for (size_t i = 0; (i = skip(row, i, [&](Float4 x) { return x >= bound; })) < row.size();)
    for (const size_t end = std::min(i + kLanes, row.size()); i < end; ++i)
      if (row[i] >= least) out[taken++] = {row[i], first + static_cast<int32_t>(i)};
  return taken;
}

void best_of_row(std::span<const float> row, int32_t first, std::span<chat::TokenLogprob> best) {
  std::ranges::fill(best, chat::TokenLogprob{-1, -std::numeric_limits<float>::infinity()});
  if (best.empty()) return;
  for (size_t i = 0; i < row.size();) {
    const Float4 worst = broadcast(best.back().logprob);
    i = skip(row, i, [&](Float4 x) { return x > worst; });
    for (const size_t end = std::min(i + kLanes, row.size()); i < end; ++i)
      if (row[i] > best.back().logprob) insert(best, {first + static_cast<int32_t>(i), row[i]});
  }
}

void merge_best(std::span<const chat::TokenLogprob> piece, std::span<chat::TokenLogprob> best) {
  for (const chat::TokenLogprob& entry : piece)
    if (entry.token >= 0) insert(best, entry);
}

float exp_negative(float x) { return exp4(broadcast(x))[0]; }

// x = 2^e m with m in [sqrt(1/2), sqrt(2)); log(m) = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
double log_positive(double x) {
  constexpr double kLn2 = 0.6931471805599453;
  const uint64_t bits = std::bit_cast<uint64_t>(x);
  int64_t exponent = static_cast<int64_t>(bits >> 52) - 1023;
  double m = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFFULL) | 0x3FF0000000000000ULL);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    ++exponent;
  }
  const double s = (m - 1) / (m + 1), square = s * s;
  double series = 0;
  for (int k = 21; k >= 1; k -= 2) series = series * square + 1.0 / k;
  return static_cast<double>(exponent) * kLn2 + 2 * s * series;
}

}  // namespace neutrino::engine
