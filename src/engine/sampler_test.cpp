#include "engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "base/sha256.h"
#include "engine/row_math.h"

namespace neutrino::engine {
namespace {

using chat::SamplingParameters;

std::vector<float> random_logits(size_t size, uint64_t seed, double spread = 4) {
  Random random(seed);
  std::vector<float> logits(size);
  for (float& logit : logits) {  // a sum of uniforms is nearly normal
    double sum = -6;
    for (int i = 0; i < 12; ++i) sum += random.uniform();
    logit = static_cast<float>(spread * sum);
  }
  return logits;
}

// The definition, in double and by sorting everything: the distribution that a token is drawn from.
std::map<int32_t, double> reference_distribution(std::vector<float> logits, const SamplingParameters& p) {
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
    return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
  });
  if (p.top_k > 0) order.resize(std::min(order.size(), static_cast<size_t>(p.top_k)));
  const double best = logits[static_cast<size_t>(order[0])];
  std::vector<double> weights;
  for (const int32_t id : order)
    weights.push_back(std::exp((logits[static_cast<size_t>(id)] - best) / p.temperature));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::map<int32_t, double> kept;
  double sum = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && (sum >= p.top_p * total || weights[i] < p.min_p)) break;
    sum += weights[i];
    kept[order[i]] = weights[i];
  }
  for (auto& [id, weight] : kept) weight /= sum;
  return kept;
}

TEST(RowMath, ExpAndLogAreClose) {
  for (float x = 0; x > -87; x -= 0.0137F)
    EXPECT_NEAR(exp_negative(x) / std::exp(static_cast<double>(x)), 1, 3e-7) << x;
  EXPECT_EQ(exp_negative(0), 1);
  EXPECT_EQ(exp_negative(-std::numeric_limits<float>::infinity()), 0);
  for (double x = 1; x < 1e9; x *= 1.0071)
    EXPECT_NEAR(log_positive(x), std::log(x), 1e-14 + 1e-15 * std::log(x)) << x;
}

TEST(RowMath, FindsTheBest) {
  for (const size_t size : {1U, 7U, 16U, 33U, 1000U}) {
    std::vector<float> row = random_logits(size, size);
    if (size > 20) row[size - 1] = row[3] = 100;  // equals: the lower id goes first
    std::vector<int32_t> order(size);
    std::iota(order.begin(), order.end(), 0);
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
      return row[static_cast<size_t>(a)] > row[static_cast<size_t>(b)];
    });
    EXPECT_EQ(first_equal(row, row_extent(row).maximum), order[0]);
    std::vector<chat::TokenLogprob> best(std::min<size_t>(size, 20));
    best_of_row(row, 0, best);
    for (size_t i = 0; i < best.size(); ++i) EXPECT_EQ(best[i].token, order[i]);
  }
}

TEST(RowMath, SeesWhatIsNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()})
    for (const size_t at : {0U, 5U, 31U, 34U}) {
      std::vector<float> row(35, 1.0F);
      EXPECT_TRUE(row_extent(row).finite);
      row[at] = bad;
      EXPECT_FALSE(row_extent(row).finite) << bad << " at " << at;
    }
}

TEST(Sampler, LogprobsAreTheLogSoftmaxOfRawLogits) {
  const auto logits = random_logits(5000, 1);
  double sum = 0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x));
  Sampler sampler(5000);
  SamplingParameters p{.temperature = 0.7, .logit_bias = {{17, 50.0F}}};
  std::vector<chat::TokenLogprob> top(5);
  const Sample sample = sampler.sample({.logits = logits, .parameters = &p, .logprob = true, .top = top});
  EXPECT_EQ(sample.token, 17) << "the bias decides";
  EXPECT_NEAR(sample.logprob, logits[17] - std::log(sum), 2e-6) << "and does not show in the log probability";
  for (const auto& [token, logprob] : top)
    EXPECT_NEAR(logprob, logits[static_cast<size_t>(token)] - std::log(sum), 2e-6);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  std::vector<float> logits(100, 0.0F);
  logits[40] = logits[70] = 3;
  const SamplingParameters p{.temperature = 0};
  Sampler sampler(100);
  EXPECT_EQ(sampler.sample({.logits = logits, .parameters = &p}).token, 40);
}

TEST(Sampler, PenaltiesFollowTheirDefinitions) {
  const std::vector<int32_t> prompt = {1, 2};
  TokenCounts counts(prompt, 8);
  for (const int32_t token : {2, 3, 3}) counts.add_generated(token);
  // Logits such that the penalised order tells each rule: the greedy token after the penalty is the answer.
  struct Case {
    SamplingParameters parameters;
    std::vector<float> logits;
    int32_t winner;
  };
  const std::vector<Case> cases = {
      {{.temperature = 0, .repetition_penalty = 2},
       {1.1F, 2.0F, 0, 0, 0},
       0},  // the prompt counts: 2 / 2 = 1
      {{.temperature = 0, .repetition_penalty = 2}, {-3.0F, -2.0F, -9, -9, -9}, 0},  // negative: -2 * 2 = -4
      {{.temperature = 0, .presence_penalty = 1}, {1.0F, 1.5F, 0, 0, 0}, 1},   // the prompt does not count
      {{.temperature = 0, .presence_penalty = 1}, {1.0F, 0, 1.5F, 0, 0}, 0},   // the output does
      {{.temperature = 0, .presence_penalty = 1}, {1.0F, 0, 0, 2.5F, 0}, 3},   // once, however often: 1.5
      {{.temperature = 0, .frequency_penalty = 1}, {1.0F, 0, 0, 2.5F, 0}, 0},  // for each time: 0.5
  };
  Sampler sampler(5);
  for (const Case& test : cases)
    EXPECT_EQ(
        sampler.sample({.logits = test.logits, .parameters = &test.parameters, .counts = &counts}).token,
        test.winner);
}

TEST(Sampler, MasksLeaveOnlyWhatIsAllowed) {
  const auto logits = random_logits(130, 3);
  const SamplingParameters p{.temperature = 2};
  Sampler sampler(130);
  std::array<uint64_t, 3> allowed{};
  allowed[1] = 1ULL << 5 | 1ULL << 9;
  allowed[2] = 1ULL << 1;
  std::set<int32_t> seen;
  const std::vector<int32_t> masked = {73};
  for (uint64_t seed = 0; seed < 200; ++seed)
    seen.insert(sampler
                    .sample({.logits = logits,
                             .parameters = &p,
                             .seed = seed,
                             .masked_tokens = masked,
                             .allowed = allowed.data()})
                    .token);
  EXPECT_THAT(seen, testing::IsSubsetOf({69, 129}));
  allowed = {};
  EXPECT_EQ(sampler.sample({.logits = logits, .parameters = &p, .allowed = allowed.data()}).status,
            SampleStatus::nothing_allowed);
}

TEST(Sampler, DrawsFromTheDefinedDistribution) {
  const std::vector<SamplingParameters> cases = {
      {.temperature = 1.0},
      {.temperature = 0.6, .top_k = 5},
      {.temperature = 1.3, .top_p = 0.8},
      {.temperature = 1.0, .min_p = 0.2},
      {.temperature = 1.7, .top_k = 40, .top_p = 0.9, .min_p = 0.05},
      {.temperature = 1.0, .top_k = 1},
      {.temperature = 2.0, .top_p = 0.999},
  };
  constexpr int kDraws = 20000;
  const auto logits = random_logits(600, 4, 2);
  Sampler sampler(600);
  for (const SamplingParameters& p : cases) {
    SCOPED_TRACE(
        fmt::format("temperature {} top_k {} top_p {} min_p {}", p.temperature, p.top_k, p.top_p, p.min_p));
    const auto expected = reference_distribution(logits, p);
    std::map<int32_t, int> drawn;
    for (int i = 0; i < kDraws; ++i)
      ++drawn[sampler.sample({.logits = logits, .parameters = &p, .seed = 42, .output_position = i}).token];
    for (const auto& [token, count] : drawn)
      EXPECT_TRUE(expected.contains(token)) << token << " was filtered out";
    double distance = 0;  // chi-square over tokens that are expected at least five times
    int freedom = 0;
    for (const auto& [token, probability] : expected) {
      if (probability * kDraws < 5) continue;
      const double difference = drawn[token] - probability * kDraws;
      distance += difference * difference / (probability * kDraws);
      ++freedom;
    }
    EXPECT_LT(distance, freedom + 6 * std::sqrt(2.0 * freedom) + 1);
  }
}

TEST(Sampler, ADrawDependsOnSeedAndPositionAlone) {
  const auto logits = random_logits(3000, 5), others = random_logits(3000, 6);
  const SamplingParameters p{.temperature = 1.2, .top_p = 0.95};
  Sampler sampler(3000);
  std::set<int32_t> seen;
  for (int64_t position = 0; position < 50; ++position) {
    const SampleRequest request{.logits = logits, .parameters = &p, .seed = 7, .output_position = position};
    const int32_t token = sampler.sample(request).token;
    sampler.sample({.logits = others, .parameters = &p, .seed = 8});
    EXPECT_EQ(sampler.sample(request).token, token);
    seen.insert(token);
  }
  EXPECT_GT(seen.size(), 10U);
}

// Tokens and log probabilities of many requests, one hash for each size of vocabulary: whatever is made faster, a seed goes on
// meaning the same text.
TEST(Sampler, GoldenTokens) {
  const std::vector<SamplingParameters> ways = {
      {.temperature = 0},
      {.temperature = 1.0},
      {.temperature = 2.0},
      {.temperature = 0.7, .top_k = 40},
      {.temperature = 1.0, .top_p = 0.9},
      {.temperature = 1.8, .top_p = 0.999},
      {.temperature = 1.0, .min_p = 0.05},
      {.temperature = 1.5, .min_p = 1e-7},
      {.temperature = 1.0, .top_k = 3000, .top_p = 0.95, .min_p = 0.001},
      {.temperature = 1.9, .top_k = 100000},
      {.temperature = 0.8, .top_p = 0.95, .repetition_penalty = 1.3, .logit_bias = {{0, 2.0F}}},
  };
  const std::vector<std::pair<size_t, const char*>> golden = {
      {1, "d5d14e1016e5d621"},     {17, "dc58e844644d67c8"},    {600, "4190f64e5695796f"},
      {4096, "8e05c6b7e76b900c"},  {16400, "653d6e4189c7bc12"}, {49152, "9099ec501e411b8b"},
      {100003, "c9fdc7b361fe0a50"}};
  for (const auto& [size, expected] : golden) {
    Sampler sampler(static_cast<int64_t>(size));
    TokenCounts counts(std::vector<int32_t>{0}, 300);
    for (size_t i = 0; i < 300; ++i) counts.add_generated(static_cast<int32_t>(i * 7919 % size));
    const std::vector<int32_t> masked = {0};
    Sha256 hash;
    for (const double spread : {0.5, 3.0}) {
      const auto logits = random_logits(size, size + 1, spread);
      for (const SamplingParameters& p : ways)
        for (int64_t position = 0; position < 12; ++position) {
          std::vector<chat::TokenLogprob> top(3);
          const Sample sample = sampler.sample(
              {.logits = logits,
               .parameters = &p,
               .seed = 5,
               .output_position = position,
               .counts = p.repetition_penalty == 1 ? nullptr : &counts,
               .masked_tokens = size > 1 && position % 4 == 1 ? masked : std::vector<int32_t>(),
               .logprob = position == 2,
               .top = top});
          hash.update(std::as_bytes(std::span(&sample.token, 1)));
          hash.update(std::as_bytes(std::span(&sample.logprob, 1)));
          if (position == 2) hash.update(std::as_bytes(std::span(top)));
        }
    }
    EXPECT_EQ(to_hex(hash.finish()).substr(0, 16), expected) << size;
  }
}

TEST(Sampler, RefusesRowsThatAreNotFinite) {
  auto logits = random_logits(100, 9);
  logits[50] = std::numeric_limits<float>::quiet_NaN();
  const SamplingParameters p{};
  Sampler sampler(100);
  EXPECT_EQ(sampler.sample({.logits = logits, .parameters = &p}).status, SampleStatus::not_finite);
  EXPECT_EQ(sampler.sample({.logits = logits, .given = 3}).status, SampleStatus::not_finite);
}

}  // namespace
}  // namespace neutrino::engine
