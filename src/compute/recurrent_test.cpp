// Recurrent operations: against a naive loop in float64, in one piece against token by token and against a snapshot, and
// every kernel table against the reference. The negative control forgets the state.

#include <gtest/gtest.h>

#include <functional>

#include "compute/backend.h"
#include "compute/test_support.h"

namespace neutrino::compute {
namespace {

using testing::copy;
using testing::cpu;
using testing::random_floats;
using testing::reference;
using testing::same_bits;
using testing::view_of;

class RecurrenceOnEveryTable : public ::testing::TestWithParam<std::string_view> {};
INSTANTIATE_TEST_SUITE_P(Isa, RecurrenceOnEveryTable, ::testing::ValuesIn(testing::every_table()),
                         [](const auto& param) { return std::string(param.param); });

// ---- the three layers, on one sequence's rows [first, first + count) of fixed inputs

constexpr int64_t kTokens = 40;
constexpr int64_t kChannels = 70, kKernel = 4;
constexpr int64_t kHeads = 6, kHeadDim = 10, kGroups = 2, kStateSize = 9;
constexpr int64_t kKeyHeads = 2, kValueHeads = 4, kKeyDim = 12, kValueDim = 17;

struct Inputs {
  std::vector<float> conv = random_floats(kTokens * kChannels, 1);
  std::vector<float> conv_weight = random_floats(kChannels * kKernel, 2),
                     conv_bias = random_floats(kChannels, 3);
  std::vector<float> xbc = random_floats(kTokens * (kHeads * kHeadDim + 2 * kGroups * kStateSize), 4);
  std::vector<float> dt = random_floats(kTokens * kHeads, 5, 3.0f), dt_bias = random_floats(kHeads, 6);
  std::vector<float> a = {-0.3f, -1, -2, -0.01f, -5, -1.5f}, d = random_floats(kHeads, 7);
  std::vector<float> qkv = random_floats(kTokens * (2 * kKeyHeads * kKeyDim + kValueHeads * kValueDim), 8);
  std::vector<float> alpha = random_floats(kTokens * kValueHeads, 9),
                     beta = random_floats(kTokens * kValueHeads, 10);
};
const Inputs kInputs;

Mamba2Shape mamba2_shape() {
  return {.heads = kHeads,
          .head_dim = kHeadDim,
          .groups = kGroups,
          .state_size = kStateSize,
          .a = kInputs.a,
          .d = kInputs.d,
          .dt_bias = kInputs.dt_bias,
          .dt_min = 0.05f,
          .dt_max = 2.5f};
}
DeltaNetShape delta_shape() {
  return {.key_heads = kKeyHeads,
          .value_heads = kValueHeads,
          .key_dim = kKeyDim,
          .value_dim = kValueDim,
          .a = std::span(kInputs.a).first(kValueHeads),
          .dt_bias = std::span(kInputs.dt_bias).first(kValueHeads)};
}

constexpr int64_t kConvState = (kKernel - 1) * kChannels;

KvCacheShape cache_shape() {
  return {.blocks = 1,
          .states = {5, kConvState + mamba2_shape().state_floats() + delta_shape().state_floats()},
          .state_slots = 4};
}

// A copy of rows [first, first + count) of a table.
std::vector<float> rows_of(const std::vector<float>& all, int64_t first, int64_t count) {
  const int64_t width = static_cast<int64_t>(all.size()) / kTokens;
  return {all.begin() + first * width, all.begin() + (first + count) * width};
}

// One sequence's part of a step: which rows, in which slot. Each gets one row of outputs a token.
struct Part {
  int64_t first, count;
  int32_t slot;
};

// All three layers over the parts in one batch; the outputs of each part, one layer after the other.
std::vector<std::vector<float>> step(Backend& backend, KvCache& cache, const std::vector<Part>& parts) {
  std::vector<float> conv, xbc, dt, qkv, alpha, beta;
  std::vector<SequenceRows> sequences;
  int64_t rows = 0;
  for (const Part& part : parts) {
    const auto append = [&](std::vector<float>& to, const std::vector<float>& from) {
      const std::vector<float> some = rows_of(from, part.first, part.count);
      to.insert(to.end(), some.begin(), some.end());
    };
    append(conv, kInputs.conv), append(xbc, kInputs.xbc), append(dt, kInputs.dt);
    append(qkv, kInputs.qkv), append(alpha, kInputs.alpha), append(beta, kInputs.beta);
    sequences.push_back(
        {.first_row = rows, .rows = part.count, .first_position = part.first, .state_slot = part.slot});
    rows += part.count;
  }
  const auto view = [rows](std::vector<float>& of) {
    return view_of(of, rows, static_cast<int64_t>(of.size()) / rows);
  };
  const Batch batch = {.sequences = sequences};
  const ScratchScope scope(backend);
  backend.causal_conv1d(view(conv), kInputs.conv_weight, kInputs.conv_bias, kKernel, batch, cache, 1, 0);
  const Tensor scanned =
      backend.mamba2_scan(view(xbc), view(dt), mamba2_shape(), batch, cache, 1, kConvState);
  const Tensor delta = backend.gated_delta_net(view(qkv), view(alpha), view(beta), delta_shape(), batch,
                                               cache, 1, kConvState + mamba2_shape().state_floats());
  std::vector<std::vector<float>> out;
  for (const SequenceRows& sequence : sequences)
    for (const Tensor& all : {view(conv), scanned, delta}) {
      const Tensor part = {.data = all.row(sequence.first_row),
                           .rows = sequence.rows,
                           .columns = all.columns,
                           .stride = all.stride};
      out.push_back(copy(part));
    }
  return out;
}

// The sequence from an empty state, in steps of these sizes.
std::vector<std::vector<float>> in_steps(Backend& backend, const std::vector<int64_t>& sizes) {
  const auto cache = backend.make_kv_cache(cache_shape());
  cache->clear_state(2);
  std::vector<std::vector<float>> out(3);
  int64_t first = 0;
  for (const int64_t size : sizes) {
    const auto part = step(backend, *cache, {{first, size, 2}});
    for (size_t i = 0; i < 3; ++i) out[i].insert(out[i].end(), part[i].begin(), part[i].end());
    first += size;
  }
  return out;
}

TEST_P(RecurrenceOnEveryTable, RecurrenceInOnePieceInChunksAndTokenByToken) {
  for (const Arithmetic arithmetic : testing::kArithmetics) {
    const auto backend = cpu(GetParam(), arithmetic);
    const auto want = in_steps(*reference(arithmetic), {kTokens});
    for (const auto& sizes : std::vector<std::vector<int64_t>>{
             {kTokens}, {1, kTokens - 1}, {3, 17, 2, 18}, std::vector<int64_t>(kTokens, 1)}) {
      const auto got = in_steps(*backend, sizes);
      for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(same_bits(got[i], want[i])) << "layer " << i;
    }
  }
}

TEST_P(RecurrenceOnEveryTable, SequencesSideBySideAndResumedFromASnapshot) {
  const auto backend = cpu(GetParam(), Arithmetic::integer);
  const auto want = in_steps(*reference(Arithmetic::integer), {kTokens});
  const auto cache = backend->make_kv_cache(cache_shape());
  step(*backend, *cache, {{0, 11, 0}});
  cache->copy_state(0, 3);                           // a snapshot after 11 tokens
  step(*backend, *cache, {{11, 9, 0}, {0, 25, 1}});  // goes on; a second sequence beside it
  const auto both = step(*backend, *cache, {{20, 20, 0}, {25, 15, 1}, {11, 29, 3}});
  for (size_t sequence = 0; sequence < 3; ++sequence)
    for (size_t i = 0; i < 3; ++i) {
      const std::vector<float>& got = both[3 * sequence + i];
      EXPECT_TRUE(same_bits(got, {want[i].end() - static_cast<ptrdiff_t>(got.size()), want[i].end()}))
          << "sequence " << sequence << ", layer " << i;
    }
  // Without the state the outputs differ in every layer.
  cache->clear_state(0);
  const auto forgot = step(*backend, *cache, {{20, 20, 0}});
  for (size_t i = 0; i < 3; ++i) EXPECT_FALSE(same_bits(forgot[i], both[i])) << "layer " << i;
}

// ---- against float64

void expect_near(const std::vector<float>& got, const std::vector<double>& want, double error) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], error * (1 + std::abs(want[i]))) << i;
}

double softplus_exact(double x) { return std::log1p(std::exp(x)); }

TEST(CausalConv, IsAConvolution) {
  std::vector<double> want;
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t c = 0; c < kChannels; ++c) {
      double sum = kInputs.conv_bias[c];
      for (int64_t k = 0; k < kKernel; ++k)
        if (const int64_t from = t - kKernel + 1 + k; from >= 0)
          sum +=
              static_cast<double>(kInputs.conv_weight[c * kKernel + k]) * kInputs.conv[from * kChannels + c];
      want.push_back(sum / (1 + std::exp(-sum)));
    }
  expect_near(in_steps(*reference(Arithmetic::float32), {kTokens})[0], want, 2e-6);
}

TEST(Mamba2Scan, IsTheRecurrence) {
  const int64_t inner = kHeads * kHeadDim, width = inner + 2 * kGroups * kStateSize;
  std::vector<double> state(static_cast<size_t>(mamba2_shape().state_floats())), want(kTokens * inner);
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t h = 0; h < kHeads; ++h) {
      const float* row = kInputs.xbc.data() + t * width;
      const int64_t group = h / (kHeads / kGroups);
      const double dt = std::clamp(
          softplus_exact(static_cast<double>(kInputs.dt[t * kHeads + h]) + kInputs.dt_bias[h]), 0.05, 2.5);
      for (int64_t p = 0; p < kHeadDim; ++p) {
        const double x = row[h * kHeadDim + p];
        double y = kInputs.d[h] * x;
        for (int64_t n = 0; n < kStateSize; ++n) {
          double& s = state[(h * kHeadDim + p) * kStateSize + n];
          s = std::exp(dt * kInputs.a[h]) * s + dt * row[inner + group * kStateSize + n] * x;
          y += s * row[inner + (kGroups + group) * kStateSize + n];
        }
        want[t * inner + h * kHeadDim + p] = y;
      }
    }
  expect_near(in_steps(*reference(Arithmetic::float32), {kTokens})[1], want, 5e-6);
}

std::vector<double> normalized(const float* x, double factor) {
  double sum = 1e-6;
  for (int64_t i = 0; i < kKeyDim; ++i) sum += static_cast<double>(x[i]) * x[i];
  std::vector<double> out(x, x + kKeyDim);
  for (double& value : out) value *= factor / std::sqrt(sum);
  return out;
}

TEST(GatedDeltaNet, IsTheRecurrence) {
  const int64_t keys = kKeyHeads * kKeyDim, width = 2 * keys + kValueHeads * kValueDim;
  std::vector<double> state(static_cast<size_t>(delta_shape().state_floats())),
      want(kTokens * kValueHeads * kValueDim);
  for (int64_t t = 0; t < kTokens; ++t)
    for (int64_t h = 0; h < kValueHeads; ++h) {
      const float* row = kInputs.qkv.data() + t * width;
      const int64_t key = h % kKeyHeads * kKeyDim;
      const auto q = normalized(row + key, 1 / std::sqrt(static_cast<double>(kKeyDim))),
                 k = normalized(row + keys + key, 1);
      const double g = kInputs.a[h] * softplus_exact(static_cast<double>(kInputs.alpha[t * kValueHeads + h]) +
                                                     kInputs.dt_bias[h]);
      const double beta = 1 / (1 + std::exp(-static_cast<double>(kInputs.beta[t * kValueHeads + h])));
      for (int64_t p = 0; p < kValueDim; ++p) {
        double* s = state.data() + (h * kValueDim + p) * kKeyDim;
        double memory = 0, y = 0;
        for (int64_t i = 0; i < kKeyDim; ++i) s[i] *= std::exp(g), memory += s[i] * k[i];
        const double u = beta * (row[2 * keys + h * kValueDim + p] - memory);
        for (int64_t i = 0; i < kKeyDim; ++i) s[i] += k[i] * u, y += s[i] * q[i];
        want[(t * kValueHeads + h) * kValueDim + p] = y;
      }
    }
  expect_near(in_steps(*reference(Arithmetic::float32), {kTokens})[2], want, 5e-6);
}

TEST(RecurrentState, HasItsPlaceAndItsSize) {
  const auto backend = reference(Arithmetic::integer);
  const auto cache = backend->make_kv_cache(cache_shape());
  EXPECT_EQ(state_slot_bytes(cache_shape()), 4 * (5 + cache_shape().states[1]));
  EXPECT_EQ(cache->bytes(), 4 * state_slot_bytes(cache_shape()));
  EXPECT_DEATH(cache->clear_state(4), "state slot");
  EXPECT_DEATH(step(*backend, *cache, {{0, 2, -1}}), "state slot");
}

}  // namespace
}  // namespace neutrino::compute
