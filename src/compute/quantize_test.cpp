#include "compute/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "base/random.h"
#include "compute/arithmetic.h"
#include "compute/testing/random_block.h"

namespace neutrino::compute {
namespace {

constexpr int64_t kColumns = 1024;

// Gaussian by Box-Muller, as weights are.
std::vector<float> gaussian(int64_t count, uint64_t seed, double scale) {
  Random random(seed);
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i)
    values.push_back(static_cast<float>(scale * std::sqrt(-2 * std::log(1 - random.uniform())) *
                                        std::cos(2 * M_PI * random.uniform())));
  return values;
}

std::vector<float> there_and_back(DType dtype, const std::vector<float>& x) {
  std::vector<uint8_t> bytes(static_cast<size_t>(row_bytes(dtype, std::ssize(x)).value()));
  EXPECT_EQ(quantize_weights(dtype, x.data(), std::ssize(x), bytes.data()), -1);
  std::vector<float> y(x.size());
  dequantize_row(dtype, bytes.data(), std::ssize(x), y.data());
  return y;
}

double relative_error(const std::vector<float>& x, const std::vector<float>& y) {
  double error = 0, sum = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    error += std::pow(double{x[i]} - y[i], 2);
    sum += double{x[i]} * x[i];
  }
  return std::sqrt(error / sum);
}

// Root of the mean squared error over that of the weights, for Gaussian weights; `llama_cpp`: of llama-quantize without an
// importance matrix, measured by its library on 300,000 such weights.
struct Bound {
  DType dtype;
  double ours, llama_cpp;
};
constexpr Bound kBounds[] = {
    {DType::q8_0, 0.00510, 0.00536},  {DType::q4_0, 0.0825, 0.08609},  {DType::q4_1, 0.0708, 0.07816},
    {DType::q5_0, 0.0408, 0.04276},   {DType::q5_1, 0.0345, 0.03784},  {DType::q4_k, 0.0711, 0.07130},
    {DType::q5_k, 0.0353, 0.03609},   {DType::q6_k, 0.0170, 0.01777},  {DType::iq4_nl, 0.0752, 0.07617},
    {DType::iq4_xs, 0.0758, 0.07676}, {DType::mxfp4, 0.1130, 0.11439}, {DType::f16, 0.00025, 0.00025},
    {DType::bf16, 0.0020, 0.0020},
};

TEST(QuantizeWeights, errors_are_below_those_of_llama_quantize) {
  const std::vector<float> x = gaussian(64 * kColumns, 1, 0.02);
  for (const Bound& bound : kBounds) {
    const double error = relative_error(x, there_and_back(bound.dtype, x));
    std::printf("%-7s %.5f of the weights (llama.cpp %.5f)\n", dtype_info(bound.dtype).name.data(), error,
                bound.llama_cpp);
    EXPECT_LE(bound.ours, bound.llama_cpp);
    EXPECT_LT(error, bound.ours) << dtype_info(bound.dtype).name;
    EXPECT_GT(error, bound.ours / 2) << dtype_info(bound.dtype).name;
  }
}

// Negative control of the test above: blocks whose scale is wrong by a tenth do not pass it.
TEST(QuantizeWeights, a_scale_that_is_off_shows) {
  const std::vector<float> x = gaussian(64 * kColumns, 1, 0.02);
  for (const Bound& bound : kBounds) {
    if (dtype_info(bound.dtype).block == 1) continue;
    std::vector<float> y = there_and_back(bound.dtype, x);
    for (float& value : y) value *= 1.1f;
    EXPECT_GT(relative_error(x, y), bound.llama_cpp) << dtype_info(bound.dtype).name;
  }
}

TEST(QuantizeWeights, every_writable_type_is_bounded_here_and_no_other) {
  for (const DType dtype : testing::weight_dtypes()) {
    const bool bounded = std::any_of(std::begin(kBounds), std::end(kBounds),
                                     [&](const Bound& bound) { return bound.dtype == dtype; });
    EXPECT_EQ(can_quantize_to(dtype), bounded || dtype == DType::f32) << dtype_info(dtype).name;
  }
}

// ---- no block is worse than with the scale that comes to mind first

// The first scale that comes to mind: the largest magnitude on the last level, or the ends of the range on the first and the last.
struct Obvious {
  DType dtype;
  float low, high;  // levels; low 0: with an offset
};
constexpr Obvious kObvious[] = {{DType::q8_0, -127, 127},
                                {DType::q4_0, -8, 7},
                                {DType::q5_0, -16, 15},
                                {DType::q4_1, 0, 15},
                                {DType::q5_1, 0, 31}};

// sum of (rms + |x|) e^2: what the search makes small.
double weighted_error(const float* x, const float* y, int n) {
  double squares = 0, error = 0;
  for (int i = 0; i < n; ++i) squares += double{x[i]} * x[i];
  for (int i = 0; i < n; ++i)
    error += (std::sqrt(squares / n) + std::abs(x[i])) * std::pow(double{x[i]} - y[i], 2);
  return error;
}

void obvious_block(const Obvious& type, const float* x, float* y) {
  const auto [low, high] = std::minmax_element(x, x + 32);
  const float farthest = -*low > *high ? *low : *high;
  const bool line = type.low == 0;
  const float d = f16_to_f32(f32_to_f16(line ? (*high - *low) / type.high : farthest / type.low));
  const float m = line ? f16_to_f32(f32_to_f16(*low)) : 0;
  for (int i = 0; i < 32; ++i)
    y[i] = d == 0 ? m : d * std::clamp(std::round((x[i] - m) / d), type.low, type.high) + m;
}

// Gaussian, heavy-tailed, uniform, sparse, on a coarse lattice, shifted.
float sample(Random& random, int64_t kind) {
  const double u = random.uniform() - 0.5, v = random.uniform();
  switch (kind) {
    case 0: return static_cast<float>(std::sqrt(-2 * std::log(1 - v)) * std::cos(4 * M_PI * u));
    case 1: return static_cast<float>(u / (0.02 + v * v));
    case 2: return static_cast<float>(u);
    case 3: return v < 0.9 ? 0.0f : static_cast<float>(u);
    case 4: return static_cast<float>(std::round(9 * u));
    default: return static_cast<float>(3 + u);
  }
}

TEST(QuantizeWeights, no_block_is_worse_than_with_the_obvious_scale) {
  const int64_t blocks = std::getenv("NEUTRINO_TEST_LONG") ? 200'000 : 3000;
  for (const Obvious& type : kObvious) {
    Random random(7);
    double ours = 0, obvious = 0;
    for (int64_t b = 0; b < blocks; ++b) {
      float y[32];
      std::vector<float> x(32);
      for (float& value : x) value = sample(random, b % 6);
      obvious_block(type, x.data(), y);
      const double least = weighted_error(x.data(), y, 32);
      const double got = weighted_error(x.data(), there_and_back(type.dtype, x).data(), 32);
      ASSERT_LE(got, 1.001 * least + 1e-12) << dtype_info(type.dtype).name << " block " << b;
      ours += got, obvious += least;
    }
    EXPECT_LT(ours, 0.97 * obvious) << dtype_info(type.dtype).name;
  }
}

// What a quantised file held comes back from it: a conversion to the same type does not wear the weights down.
TEST(QuantizeWeights, weights_on_the_lattice_stay) {
  for (const DType dtype : {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::iq4_nl}) {
    const std::vector<float> x = there_and_back(dtype, gaussian(16 * kColumns, 2, 0.02));
    EXPECT_LT(relative_error(x, there_and_back(dtype, x)), 5e-4) << dtype_info(dtype).name;
  }
}

// At the end of f16, where a fitted offset may lie beyond it.
TEST(QuantizeWeights, the_largest_values_stay_finite) {
  Random random(3);
  for (const Bound& bound : kBounds)
    for (int trial = 0; trial < 100; ++trial) {
      std::vector<float> x(256);
      for (float& value : x)
        value = largest_weight(bound.dtype) *
                static_cast<float>(trial % 2 ? 1 - 0.1 * random.uniform() : 0.1 * random.uniform() - 1);
      for (const float value : there_and_back(bound.dtype, x)) ASSERT_TRUE(std::isfinite(value));
      EXPECT_LT(relative_error(x, there_and_back(bound.dtype, x)), 0.15) << dtype_info(bound.dtype).name;
    }
}

// Rows that break searches: nothing, one value, all equal, one sign, tiny, huge, one outlier.
TEST(QuantizeWeights, odd_rows_stay_close) {
  std::vector<std::vector<float>> rows(8, std::vector<float>(256, 0.0f));
  rows[1][200] = 0.5f;
  for (int i = 0; i < 256; ++i) {
    rows[2][i] = -0.25f;
    rows[3][i] = 1.0f + 0.001f * static_cast<float>(i);
    rows[4][i] = 1e-7f * static_cast<float>(i % 7 - 3);
    rows[5][i] = 1000.0f * static_cast<float>(i % 11 - 5);
    rows[6][i] = i == 99 ? -300.0f : 0.01f * static_cast<float>(i % 5 - 2);
    rows[7][i] = 1e-42f * static_cast<float>(i % 3);
  }
  for (const Bound& bound : kBounds)
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::vector<float> y = there_and_back(bound.dtype, rows[r]);
      float largest = 0, error = 0;
      for (size_t i = 0; i < y.size(); ++i) {
        ASSERT_TRUE(std::isfinite(y[i]));
        largest = std::max(largest, std::abs(rows[r][i]));
        error = std::max(error, std::abs(y[i] - rows[r][i]));
      }
      // an f16 scale has steps of 2^-24, and there are up to 32 of it in a value
      EXPECT_LE(error, 0.2f * largest + 2e-6f) << dtype_info(bound.dtype).name << " row " << r;
      EXPECT_TRUE(r != 0 || y == rows[0]) << dtype_info(bound.dtype).name;
    }
}

TEST(QuantizeWeights, a_value_that_does_not_fit_is_found) {
  for (const Bound& bound : kBounds)
    for (const float value : {std::nanf(""), -INFINITY, INFINITY, 2 * largest_weight(bound.dtype)}) {
      std::vector<float> x(512, 1.0f);
      x[300] = x[400] = value;
      std::vector<uint8_t> bytes(2048);
      EXPECT_EQ(quantize_weights(bound.dtype, x.data(), 512, bytes.data()), 300)
          << dtype_info(bound.dtype).name << ' ' << value;
      x[300] = x[400] = largest_weight(bound.dtype);
      EXPECT_EQ(quantize_weights(bound.dtype, x.data(), 512, bytes.data()), -1);
      std::vector<float> y(512);
      dequantize_row(bound.dtype, bytes.data(), 512, y.data());
      EXPECT_TRUE(std::isfinite(y[300])) << dtype_info(bound.dtype).name;
    }
}

// The bytes are the same in threads of a backend, which flush denormals, and in any other.
TEST(QuantizeWeights, the_float_mode_of_the_thread_does_not_matter) {
  std::vector<float> x = gaussian(1024, 3, 1e-39);
  for (const Bound& bound : kBounds) {
    std::vector<uint8_t> a(4096), b(4096);
    std::fesetenv(FE_DFL_ENV);
    quantize_weights(bound.dtype, x.data(), 1024, a.data());
    set_float_mode();
    quantize_weights(bound.dtype, x.data(), 1024, b.data());
    std::fesetenv(FE_DFL_ENV);
    EXPECT_EQ(a, b) << dtype_info(bound.dtype).name;
  }
}

}  // namespace
}  // namespace neutrino::compute
