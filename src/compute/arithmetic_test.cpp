#include "compute/arithmetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/random.h"
#include "compute/integer_weights.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

TEST(Exponential, IsWithinTwoUnitsOfTheLastPlace) {
  double worst = 0;
  for (int i = 0; i <= 1'000'000; ++i) {
    const auto x = static_cast<float>(-87.0 + 175.0 * i / 1'000'000);
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(exponential(x) - exact) / exact);
  }
  EXPECT_LT(worst, 2 * 0x1p-23);
}

TEST(Exponential, EdgesStayFiniteAndNanStaysNan) {
  EXPECT_EQ(exponential(0.0f), 1.0f);
  EXPECT_EQ(exponential(-0.0f), 1.0f);
  EXPECT_EQ(exponential(-1e30f), exponential(-87.0f));
  EXPECT_EQ(exponential(std::numeric_limits<float>::infinity()), exponential(88.0f));
  EXPECT_TRUE(std::isfinite(exponential(88.0f)));
  EXPECT_TRUE(std::isnan(exponential(std::nanf(""))));
}

TEST(SiluProduct, MatchesTheFormula) {
  for (const float gate : {-90.0f, -20.0f, -1.0f, 0.0f, 0.3f, 5.0f, 90.0f})
    EXPECT_NEAR(silu_product(gate, 2.0f), 2 * gate / (1 + std::exp(-static_cast<double>(gate))),
                std::abs(gate) * 1e-6);
}

// The largest error over the values, in units of the last place of unit(x, exact).
template <typename F, typename G, typename U>
double worst_ulps(double low, double high, F approximate, G exact, U unit) {
  double worst = 0;
  for (int i = 0; i <= 400'000; ++i) {
    const auto x = static_cast<float>(low + (high - low) * i / 400'000);
    const double want = exact(static_cast<double>(x));
    worst = std::max(worst, std::abs(approximate(x) - want) / (std::abs(unit(x, want)) * 0x1p-23));
  }
  return worst;
}

const auto kOfTheResult = [](double, double exact) { return exact; };
const auto kOfTheArgument = [](double x, double) { return x == 0 ? 1.0 : x; };

double normal_distribution(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

TEST(Functions, AreWithinAFewUnitsOfTheLastPlace) {
  EXPECT_LT(worst_ulps(-86, 86, sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, kOfTheResult), 4);
  const auto tanh_exact = [](double x) { return std::tanh(x); };
  EXPECT_LT(worst_ulps(1e-6, 20, hyperbolic_tangent, tanh_exact, kOfTheResult), 3);
  EXPECT_LT(worst_ulps(-20, -1e-6, hyperbolic_tangent, tanh_exact, kOfTheResult), 3);
  const auto softplus_exact = [](double x) { return std::log1p(std::exp(x)); };
  EXPECT_LT(worst_ulps(-80, 80, softplus, softplus_exact, kOfTheResult), 4);
  const auto gelu_exact = [](double x) { return x == 0 ? 1e-30 : x * normal_distribution(x); };
  EXPECT_LT(worst_ulps(-12.9, -1e-6, gelu_erf, gelu_exact, kOfTheResult), 6);
  EXPECT_LT(worst_ulps(1e-6, 30, gelu_erf, gelu_exact, kOfTheResult), 4);
  const auto gelu_tanh_exact = [](double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  };
  EXPECT_LT(worst_ulps(-20, 20, gelu_tanh, gelu_tanh_exact, kOfTheArgument), 4);
  const auto capped = [](float x) { return softcap_value(x, 30.0f); };
  EXPECT_LT(worst_ulps(1e-3, 300, capped, [](double x) { return 30 * std::tanh(x / 30); }, kOfTheResult), 4);
  // The negative control: exp's bound does not hold for a polynomial that lacks its last two terms.
  const auto coarse = [](float x) { return 1 + x + x * x / 2 + x * x * x / 6; };
  EXPECT_GT(worst_ulps(-0.3, 0.3, coarse, [](double x) { return std::exp(x); }, kOfTheResult), 100);
}

TEST(Functions, ExtremesStayFiniteAndNanStaysNan) {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::nanf("");
  EXPECT_EQ(gelu_erf(1e30f), 1e30f);
  EXPECT_EQ(gelu_tanh(1e30f), 1e30f);
  EXPECT_NEAR(gelu_erf(-1e30f), 0.0f, 1e-6f);
  EXPECT_EQ(std::abs(gelu_tanh(-1e30f)), 0.0f);
  EXPECT_EQ(hyperbolic_tangent(infinity), 1.0f);
  EXPECT_EQ(hyperbolic_tangent(-infinity), -1.0f);
  EXPECT_EQ(softplus(100.0f), 100.0f);
  EXPECT_NEAR(softplus(-1e30f), 0.0f, 1e-30f);
  EXPECT_EQ(softcap_value(infinity, 50.0f), 50.0f);
  for (const Function function : {Function::silu, Function::gelu_tanh, Function::gelu_erf,
                                  Function::relu_squared, Function::sigmoid, Function::tanh})
    EXPECT_TRUE(std::isnan(apply_function(function, nan))) << static_cast<int>(function);
}

TEST(GateProduct, SwigluOaiClampsBothSides) {
  const auto exact = [](double gate, double up) {
    const double g = std::min(gate, 7.0), u = std::clamp(up, -7.0, 7.0);
    return g / (1 + std::exp(-1.702 * g)) * (u + 1);
  };
  for (const float gate : {-50.0f, -1.0f, 0.5f, 6.9f, 9.0f})
    for (const float up : {-20.0f, -6.0f, 0.0f, 3.0f, 11.0f})
      EXPECT_NEAR(gate_product(Function::swiglu_oai, gate, up), exact(gate, up),
                  1e-6 * (1 + std::abs(exact(gate, up))));
  EXPECT_EQ(gate_product(Function::relu_squared, -2.0f, 3.0f), 0.0f);
  EXPECT_EQ(gate_product(Function::relu_squared, 2.0f, 3.0f), 12.0f);
}

TEST(LayerNorm, MatchesTheFormula) {
  Random random(5);
  for (const int64_t n : {1, 5, 16, 33, 384}) {
    std::vector<float> x(static_cast<size_t>(n)), weight(x.size()), bias(x.size()), out(x.size());
    double mean = 0, variance = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      x[i] = static_cast<float>(random.uniform() * 8 - 3);
      weight[i] = static_cast<float>(random.uniform()), bias[i] = static_cast<float>(random.uniform());
      mean += x[i] / static_cast<double>(n);
    }
    for (const float value : x) variance += (value - mean) * (value - mean) / static_cast<double>(n);
    layer_norm_row(x.data(), weight.data(), bias.data(), 1e-5f, n, out.data());
    for (size_t i = 0; i < x.size(); ++i)
      EXPECT_NEAR(out[i], (x[i] - mean) / std::sqrt(variance + 1e-5) * weight[i] + bias[i], 3e-6);
  }
}

TEST(QuantizeRow, ReachesTheLimitAndRoundsToNearestEven) {
  const float row[] = {-2.0f, 1.0f, 0.0f, 2.0f / kActivationMax * 1.5f, 2.0f / kActivationMax * 2.5f};
  int16_t out[5];
  const float scale = quantize_row(row, 5, out);
  EXPECT_EQ(scale, 2.0f / kActivationMax);
  EXPECT_EQ(std::vector<int16_t>(out, out + 5), (std::vector<int16_t>{-16256, 8128, 0, 2, 2}));
}

TEST(QuantizeRow, ZeroTinyAndBrokenRows) {
  int16_t out[2] = {7, 7};
  const float zero[] = {0.0f, -0.0f}, tiny[] = {1e-38f, -1e-31f};
  EXPECT_EQ(quantize_row(zero, 2, out), 0.0f);
  EXPECT_EQ(out[0], 0);
  EXPECT_EQ(quantize_row(tiny, 2, out), 0.0f);
  for (const float broken : {std::nanf(""), -std::nanf(""), std::numeric_limits<float>::infinity()}) {
    const float row[] = {1e30f, broken};
    EXPECT_TRUE(std::isnan(quantize_row(row, 2, out)));
    EXPECT_EQ(out[0], 0);
  }
}

TEST(DotFloat, SumsLanesOverTheTree) {
  // 1e8 in lane 0 swallows what shares its lane before the tree, and only that.
  std::vector<float> w(32, 1.0f), x(32, 0.0f);
  x[0] = 1e8f, x[16] = 1.0f, x[1] = 1.0f;
  EXPECT_EQ(dot_float(w.data(), x.data(), 32), 1e8f);
  x[0] = 0;
  EXPECT_EQ(dot_float(w.data(), x.data(), 32), 2.0f);
}

struct Block41 {
  uint16_t d, m;
  uint8_t q[16];
};

TEST(IntegerRow, NibblesAreWithinAThousandthOfTheRowMaximum) {
  Random random(1);
  for (int trial = 0; trial < 200; ++trial) {
    std::vector<Block41> row(18);
    for (Block41& block : row) {
      block.d = f32_to_f16(static_cast<float>(random.uniform() * 0.1));
      block.m = f32_to_f16(static_cast<float>(-random.uniform()));
      for (uint8_t& q : block.q) q = static_cast<uint8_t>(random.next());
    }
    const int64_t columns = 18 * 32;
    std::vector<float> real(columns);
    dequantize_row(DType::q4_1, row.data(), columns, real.data());
    IntegerRow integer;
    integer_row(DType::q4_1, row.data(), columns, integer);
    float largest = 0, error = 0;
    int64_t sum = 0;
    for (int64_t c = 0; c < columns; ++c) {
      const int32_t w = integer_weight(WeightKind::nibble, integer, c);
      sum += std::abs(w);
      largest = std::max(largest, std::abs(real[c]));
      error = std::max(error, std::abs(static_cast<float>(w) * integer.scale - real[c]));
    }
    EXPECT_LT(127 * sum, int64_t{1} << 31);
    EXPECT_LT(error / largest, 5e-4);
  }
}

struct Bound {
  DType dtype;
  double error;  // of a weight, of its row's largest
};
constexpr Bound kBounds[] = {
    {DType::q4_0, 3e-4}, {DType::q4_1, 5e-4},   {DType::q4_k, 5e-4},   {DType::q5_0, 6e-4},
    {DType::q5_1, 1e-3}, {DType::q5_k, 1e-3},   {DType::q6_k, 1e-5},   {DType::q8_0, 1e-5},
    {DType::mxfp4, 0},   {DType::iq4_nl, 1e-5}, {DType::iq4_xs, 1e-5},
};

TEST(IntegerRow, PackedTypesAreCloseToTheFilesWeights) {
  constexpr int64_t kColumns = 2048;
  for (const Bound& bound : kBounds) {
    const testing::OwnedMatrix w = testing::random_matrix(bound.dtype, 50, kColumns, 1);
    const int64_t stride = row_bytes(bound.dtype, kColumns).value();
    double worst = 0;
    for (int64_t r = 0; r < 50; ++r) {
      std::vector<float> real(kColumns);
      dequantize_row(bound.dtype, w.bytes.data() + r * stride, kColumns, real.data());
      IntegerRow row;
      integer_row(bound.dtype, w.bytes.data() + r * stride, kColumns, row);
      const double largest =
          std::abs(*std::ranges::max_element(real, {}, [](float x) { return std::abs(x); }));
      for (int64_t c = 0; c < kColumns; ++c) {
        const double w_c = integer_weight(weight_kind(bound.dtype), row, c) * static_cast<double>(row.scale);
        worst = std::max(worst, std::abs(w_c - static_cast<double>(real[c])) / largest);
      }
    }
    EXPECT_LE(worst, bound.error) << dtype_info(bound.dtype).name;
    EXPECT_EQ(worst > 0, bound.error > 0) << dtype_info(bound.dtype).name;
  }
}

TEST(IntegerRow, BytesKeepEighteenBits) {
  struct Block80 {
    uint16_t d;
    int8_t q[32];
  } row[2];
  row[0].d = f32_to_f16(0.5f), row[1].d = f32_to_f16(0.0123f);
  for (int i = 0; i < 32; ++i)
    row[0].q[i] = static_cast<int8_t>(4 * i - 64), row[1].q[i] = static_cast<int8_t>(-128);
  IntegerRow integer;
  integer_row(DType::q8_0, row, 64, integer);
  EXPECT_EQ(integer.e[0], 1 << 17);
  EXPECT_EQ(integer.q[0], -64);
  EXPECT_NEAR(integer_weight(WeightKind::byte, integer, 40) * static_cast<double>(integer.scale),
              -128 * f16_to_f32(row[1].d), 1e-3);
}

TEST(IntegerRow, AScaleGrowsUntilTheSumsFit) {
  const std::vector<float> ones(4096, 1.0f);  // 16256 * 32767 * 128 is 32 times 2^31
  IntegerRow integer;
  integer_row(DType::f32, ones.data(), 4096, integer);
  EXPECT_LT(int64_t{16256} * integer.q[0] * kWordRun, int64_t{1} << 31);
  EXPECT_GT(integer.q[0], 511);
  EXPECT_NEAR(integer.q[0] * integer.scale, 1.0f, 1e-3);
}

TEST(IntegerRow, ZeroAndBrokenRows) {
  IntegerRow integer;
  const float zero[] = {0.0f, -0.0f}, broken[] = {1.0f, std::nanf("")}, tiny[] = {1e-38f, 0.0f};
  integer_row(DType::f32, zero, 2, integer);
  EXPECT_EQ(integer.scale, 0.0f);
  integer_row(DType::f32, tiny, 2, integer);
  EXPECT_EQ(integer.scale, 0.0f);
  const float infinite[] = {-INFINITY, 1.0f};
  for (const float* row : {broken, infinite}) {
    integer_row(DType::f32, row, 2, integer);
    EXPECT_TRUE(std::isnan(integer.scale));
    EXPECT_EQ(integer.q[0], 0);
  }
}

}  // namespace
}  // namespace neutrino::compute
