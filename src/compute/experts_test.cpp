// Routing against its definition in float64, ties included; and experts: every kernel table against the reference, a row
// alone against the batch, all of it against a naive sum.

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "compute/arithmetic.h"
#include "compute/backend.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

using testing::cpu;
using testing::kArithmetics;
using testing::OwnedMatrix;
using testing::random_floats;
using testing::random_matrix;
using testing::reference;
using testing::same_bits;
using testing::view_of;

class ExpertsOnEveryTable : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Isa, ExpertsOnEveryTable, ::testing::ValuesIn(testing::every_table()),
                         [](const auto& param) { return std::string(param.param); });

struct Chosen {
  std::vector<int32_t> experts;
  std::vector<double> weights;
};

// Indices of the `count` largest, ties to the lower index.
std::vector<int64_t> largest(const std::vector<double>& values, int64_t count) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](int64_t a, int64_t b) {
    return values[a] > values[b] || (values[a] == values[b] && a < b);
  });
  order.resize(static_cast<size_t>(count));
  return order;
}

std::vector<double> softmax(std::vector<double> x) {
  double sum = 0;
  for (double& value : x) sum += value = std::exp(value);
  for (double& value : x) value /= sum;
  return x;
}

// The definition, naively.
Chosen route_row(const RouterShape& router, const float* logits) {
  std::vector<double> p(logits, logits + router.experts);
  if (router.gating == Gating::softmax) p = softmax(p);
  if (router.gating == Gating::sigmoid)
    for (double& value : p) value = 1 / (1 + std::exp(-value));
  std::vector<double> choice = p;
  for (size_t e = 0; e < router.bias.size(); ++e) choice[e] += router.bias[e];
  const int64_t size = router.experts / router.groups;
  std::vector<double> groups;
  for (int64_t g = 0; g < router.groups; ++g) {
    std::vector<double> members(choice.begin() + g * size, choice.begin() + (g + 1) * size);
    std::ranges::sort(members, std::greater());
    groups.push_back(router.group_score == GroupScore::largest ? members[0] : members[0] + members[1]);
  }
  const std::vector<int64_t> open = largest(groups, router.groups_used);
  for (int64_t e = 0; e < router.experts; ++e)
    if (std::ranges::find(open, e / size) == open.end()) choice[e] = -1e30;
  Chosen out;
  for (const int64_t e : largest(choice, router.experts_used)) {
    out.experts.push_back(static_cast<int32_t>(e));
    out.weights.push_back(p[e]);
  }
  if (router.gating == Gating::softmax_of_selected) out.weights = softmax(out.weights);
  const double sum = std::accumulate(out.weights.begin(), out.weights.end(), 0.0);
  for (double& weight : out.weights)
    weight *= router.scale / (router.normalize ? std::max<double>(sum, router.weights_min) : 1);
  return out;
}

const std::vector<float> kBias = random_floats(24, 9, 0.1f);

const RouterShape kRouters[] = {
    {.experts = 24, .experts_used = 4},
    {.experts = 24, .experts_used = 4, .normalize = true},
    {.experts = 24, .experts_used = 5, .gating = Gating::softmax_of_selected},
    {.experts = 24,
     .experts_used = 3,
     .gating = Gating::sigmoid,
     .bias = kBias,
     .normalize = true,
     .scale = 2.5f},
    {.experts = 24,
     .experts_used = 6,
     .gating = Gating::sigmoid,
     .bias = kBias,
     .groups = 4,
     .groups_used = 2},
    {.experts = 24,
     .experts_used = 4,
     .groups = 6,
     .groups_used = 3,
     .group_score = GroupScore::largest,
     .scale = 16},
    {.experts = 24, .experts_used = 2, .bias = kBias, .normalize = true, .weights_min = 0.9f},
    {.experts = 24, .experts_used = 24, .normalize = true},
};

TEST_P(ExpertsOnEveryTable, RoutingIsItsDefinition) {
  const auto backend = cpu(GetParam(), Arithmetic::integer);
  constexpr int64_t kRows = 200;
  std::vector<float> logits = random_floats(kRows * 24, 1, 3.0f);
  for (const RouterShape& router : kRouters) {
    const ScratchScope scope(*backend);
    const Routing routing = backend->route(view_of(logits, kRows, 24), router);
    for (int64_t r = 0; r < kRows; ++r) {
      const Chosen want = route_row(router, logits.data() + r * 24);
      for (int64_t i = 0; i < router.experts_used; ++i) {
        ASSERT_EQ(routing.experts[r * routing.used + i], want.experts[i]) << "router " << &router - kRouters;
        EXPECT_NEAR(routing.weights[r * routing.used + i], want.weights[i], 1e-6 * router.scale);
      }
    }
  }
}

TEST(Routing, TiesGoToTheLowerIndexAndNansStayInTheirRow) {
  const auto backend = reference(Arithmetic::integer);
  std::vector<float> logits = {1, 3, 3, 0, 3, 1, /**/ 0, 0, 0, 0, 0, 0, /**/ 0, NAN, 1, 2, 3, 4};
  const RouterShape flat = {.experts = 6, .experts_used = 4},
                    grouped = {.experts = 6, .experts_used = 3, .groups = 3, .groups_used = 2};
  const Routing a = backend->route(view_of(logits, 3, 6), flat);
  EXPECT_EQ((std::vector<int32_t>(a.experts, a.experts + 8)), (std::vector<int32_t>{1, 2, 4, 0, 0, 1, 2, 3}));
  std::vector<int32_t> broken(a.experts + 8, a.experts + 12);
  std::ranges::sort(broken);
  EXPECT_TRUE(std::ranges::adjacent_find(broken) == broken.end() && broken[0] >= 0 && broken[3] < 6);
  // Groups (1, 3), (3, 0), (3, 1): the first and the last have the sum 4.
  const Routing b = backend->route(view_of(logits, 2, 6), grouped);
  EXPECT_EQ((std::vector<int32_t>(b.experts, b.experts + 6)), (std::vector<int32_t>{1, 4, 0, 0, 1, 2}));
}

// ---- experts

constexpr int64_t kExperts = 7, kUsed = 3, kHidden = 64, kInner = 96;

struct Mixture {
  DType dtype;
  Function function;
  bool gate, bias;
};
constexpr Mixture kMixtures[] = {{DType::q4_1, Function::silu, true, false},
                                 {DType::q8_0, Function::gelu_tanh, true, false},
                                 {DType::f16, Function::swiglu_oai, true, true},
                                 {DType::f32, Function::relu_squared, false, false}};

struct OwnedExperts {
  std::vector<OwnedMatrix> matrices;
  std::vector<float> gate_bias, up_bias, down_bias;
  ExpertWeights weights;
};

OwnedExperts make_experts(const Mixture& mixture) {
  OwnedExperts out;
  out.matrices.reserve(3 * kExperts);
  const auto add = [&](std::vector<WeightView>& list, int64_t rows, int64_t columns) {
    out.matrices.push_back(random_matrix(mixture.dtype, rows, columns, out.matrices.size() + 1));
    list.push_back(out.matrices.back().view);
  };
  for (int64_t e = 0; e < kExperts; ++e) {
    if (mixture.gate) add(out.weights.gate, kInner, kHidden);
    add(out.weights.up, kInner, kHidden);
    add(out.weights.down, kHidden, kInner);
  }
  out.weights.function = mixture.function;
  if (!mixture.bias) return out;
  out.gate_bias = random_floats(kExperts * kInner, 31), out.up_bias = random_floats(kExperts * kInner, 32);
  out.down_bias = random_floats(kExperts * kHidden, 33);
  out.weights.gate_bias = out.gate_bias, out.weights.up_bias = out.up_bias,
  out.weights.down_bias = out.down_bias;
  return out;
}

struct Rows {
  std::vector<float> x, sum;
  std::vector<int32_t> experts;
  std::vector<float> weights;
  int64_t count() const { return static_cast<int64_t>(x.size()) / kHidden; }
};

Rows make_rows(int64_t count) {
  Rows out = {.x = random_floats(count * kHidden, 5), .sum = random_floats(count * kHidden, 6)};
  for (int64_t r = 0; r < count; ++r)
    for (int64_t i = 0; i < kUsed; ++i)
      out.experts.push_back(static_cast<int32_t>((r * 5 + i * (1 + r % 2)) % kExperts));
  out.weights = random_floats(count * kUsed, 7);
  return out;
}

std::vector<float> mix(Backend& backend, const Experts& experts, Rows rows) {
  const ScratchScope scope(backend);
  Tensor sum = view_of(rows.sum, rows.count(), kHidden);
  const Routing routing = {
      .rows = rows.count(), .used = kUsed, .experts = rows.experts.data(), .weights = rows.weights.data()};
  backend.experts_add(sum, backend.activation(view_of(rows.x, rows.count(), kHidden)), experts, routing);
  return rows.sum;
}

TEST_P(ExpertsOnEveryTable, ExpertsHaveTheBitsOfTheReferenceAndOfARowAlone) {
  for (const Arithmetic arithmetic : kArithmetics)
    for (const Mixture& mixture : kMixtures) {
      const OwnedExperts owned = make_experts(mixture);
      const auto fast = cpu(GetParam(), arithmetic), slow = reference(arithmetic);
      const auto of_fast = fast->load_experts(owned.weights), of_slow = slow->load_experts(owned.weights);
      const Rows rows = make_rows(11);
      const std::vector<float> together = mix(*fast, *of_fast, rows);
      EXPECT_TRUE(same_bits(together, mix(*slow, *of_slow, rows))) << "mixture " << &mixture - kMixtures;
      for (int64_t r = 0; r < rows.count(); ++r) {
        const auto part = [r](const auto& list, int64_t width) {
          return std::vector(list.begin() + r * width, list.begin() + (r + 1) * width);
        };
        const std::vector<float> alone = mix(*fast, *of_fast,
                                             {.x = part(rows.x, kHidden),
                                              .sum = part(rows.sum, kHidden),
                                              .experts = part(rows.experts, kUsed),
                                              .weights = part(rows.weights, kUsed)});
        EXPECT_TRUE(same_bits(alone, part(together, kHidden))) << "row " << r;
      }
    }
}

// W x + bias in float64.
std::vector<double> multiply(const WeightView& w, const std::vector<double>& x, std::span<const float> bias) {
  std::vector<double> out;
  std::vector<float> row(static_cast<size_t>(w.columns));
  for (int64_t r = 0; r < w.rows; ++r) {
    dequantize_row(w.dtype, w.data + r * *row_bytes(w.dtype, w.columns), w.columns, row.data());
    double sum = bias.empty() ? 0 : bias[static_cast<size_t>(r)];
    for (int64_t c = 0; c < w.columns; ++c) sum += static_cast<double>(row[c]) * x[c];
    out.push_back(sum);
  }
  return out;
}

TEST(Experts, AreTheWeightedSumOfTheirMlps) {
  for (const Mixture& mixture : kMixtures) {
    const OwnedExperts owned = make_experts(mixture);
    const auto backend = reference(Arithmetic::float32);
    const auto experts = backend->load_experts(owned.weights);
    const Rows rows = make_rows(4);
    const std::vector<float> got = mix(*backend, *experts, rows);
    const auto bias = [](std::span<const float> all, int64_t e, int64_t width) {
      return all.empty() ? all : all.subspan(static_cast<size_t>(e * width), static_cast<size_t>(width));
    };
    for (int64_t r = 0; r < rows.count(); ++r) {
      const std::vector<double> x(rows.x.begin() + r * kHidden, rows.x.begin() + (r + 1) * kHidden);
      std::vector<double> want(rows.sum.begin() + r * kHidden, rows.sum.begin() + (r + 1) * kHidden);
      for (int64_t i = 0; i < kUsed; ++i) {
        const int64_t e = rows.experts[r * kUsed + i];
        std::vector<double> inner = multiply(owned.weights.up[e], x, bias(owned.weights.up_bias, e, kInner));
        std::vector<double> gate = inner;
        if (mixture.gate) gate = multiply(owned.weights.gate[e], x, bias(owned.weights.gate_bias, e, kInner));
        for (int64_t c = 0; c < kInner; ++c)
          inner[c] = mixture.gate ? gate_product(mixture.function, static_cast<float>(gate[c]),
                                                 static_cast<float>(inner[c]))
                                  : apply_function(mixture.function, static_cast<float>(inner[c]));
        const std::vector<double> out =
            multiply(owned.weights.down[e], inner, bias(owned.weights.down_bias, e, kHidden));
        for (int64_t c = 0; c < kHidden; ++c)
          want[c] += static_cast<double>(rows.weights[r * kUsed + i]) * out[c];
      }
      for (int64_t c = 0; c < kHidden; ++c)
        EXPECT_NEAR(got[r * kHidden + c], want[c], 1e-4) << "mixture " << &mixture - kMixtures;
    }
  }
}

}  // namespace
}  // namespace neutrino::compute
