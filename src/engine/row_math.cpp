#include "engine/row_math.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "engine/row_passes.h"

namespace neutrino::engine {
namespace {

using Float4 = float __attribute__((vector_size(16)));
using Int4 = int32_t __attribute__((vector_size(16)));
constexpr size_t kLanes = 16;  // 4 x Float4

inline Float4 load(const float* from) {
  Float4 value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline Float4 broadcast(float x) { return Float4{x, x, x, x}; }

double sum_of(const std::array<float, kLanes>& lanes) {
  double total = 0;
  for (size_t i = 0; i < kLanes; i += 4)
    total += (static_cast<double>(lanes[i]) + static_cast<double>(lanes[i + 1])) +
             (static_cast<double>(lanes[i + 2]) + static_cast<double>(lanes[i + 3]));
  return total;
}

size_t whole_lanes(std::span<const float> row) { return row.size() - row.size() % kLanes; }

}  // namespace

const RowPasses& row_passes() {
  static const RowPasses& passes = __builtin_cpu_supports("avx2") ? kAvx2Passes : kGenericPasses;
  return passes;
}

RowExtent row_extent(std::span<const float> row) {
  std::array<float, kLanes> maxima, zeros;
  const size_t whole = whole_lanes(row);
  row_passes().extents(row.data(), whole, maxima.data(), zeros.data());
  RowExtent extent{.maximum = *std::ranges::max_element(maxima), .finite = sum_of(zeros) == 0};
  for (size_t i = whole; i < row.size(); ++i) {
    extent.maximum = row[i] > extent.maximum ? row[i] : extent.maximum;
    extent.finite = extent.finite && std::isfinite(row[i]);
  }
  return extent;
}

void exponentials(std::span<const float> row, float maximum, float scale, std::span<double> sums,
                  std::span<float> terms) {
  check(sums.size() * kSumRun >= row.size(), "exponentials: a sum for each run");
  const size_t whole = whole_lanes(row), rest = row.size() - whole;
  std::array<float, kLanes> lanes;
  size_t run = 0;
  for (size_t begin = 0; begin < whole; begin += kSumRun) {
    row_passes().exponentials(row.data() + begin, std::min(kSumRun, whole - begin), maximum, scale,
                              lanes.data(), terms.empty() ? nullptr : terms.data() + begin);
    sums[run++] = sum_of(lanes);
  }
  if (rest == 0) return;
  std::array<float, kLanes> tail, tail_terms;  // padded with what has no weight
  tail.fill(-std::numeric_limits<float>::infinity());
  std::copy_n(row.begin() + static_cast<ptrdiff_t>(whole), rest, tail.begin());
  row_passes().exponentials(tail.data(), kLanes, maximum, scale, lanes.data(), tail_terms.data());
  if (!terms.empty()) std::copy_n(tail_terms.begin(), rest, terms.begin() + static_cast<ptrdiff_t>(whole));
  sums[run] = sum_of(lanes);
}

void add_to_tiers(std::span<const float> weights, std::span<WeightTier> tiers) {
  const size_t whole = whole_lanes(weights);
  for (WeightTier& tier : tiers) {
    std::array<int32_t, kLanes> counts;
    std::array<float, kLanes> masses;
    row_passes().tiers(weights.data(), whole, tier.least, counts.data(), masses.data());
    tier.count += std::accumulate(counts.begin(), counts.end(), int64_t{0});
    tier.mass += sum_of(masses);
    for (size_t i = whole; i < weights.size(); ++i)
      if (weights[i] >= tier.least) ++tier.count, tier.mass += static_cast<double>(weights[i]);
  }
}

double sum_in_double(std::span<const float> terms) {
  std::array<double, 8> lanes;
  const size_t whole = whole_lanes(terms);
  row_passes().sums_in_double(terms.data(), whole, lanes.data());
  double total = 0;
  for (size_t i = 0; i < lanes.size(); i += 2) total += lanes[i] + lanes[i + 1];
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
    for (const size_t end = std::min(i + kLanes, row.size()); i < end; ++i) {
      out[taken] = {row[i], first + static_cast<int32_t>(i)};  // without a branch, which would be a guess
      taken += row[i] >= least ? 1 : 0;
    }
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

float exp_negative(float x) {
  std::array<float, kLanes> row, sums, terms;
  row.fill(x);
  row_passes().exponentials(row.data(), kLanes, 0, 1, sums.data(), terms.data());
  return terms[0];
}

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
