#include "engine/batch_sampler.h"

#include <gtest/gtest.h>

#include <bit>

#include "base/random.h"

namespace neutrino::engine {
namespace {

constexpr int64_t kVocabulary = 40009;  // chunks, and a rest that no vector fills

struct Row {
  std::vector<float> logits;
  chat::SamplingParameters parameters;
  std::vector<chat::TokenLogprob> top = std::vector<chat::TokenLogprob>(4);
  bool given = false;
};

std::vector<Row> make_rows() {
  std::vector<Row> rows(11);
  Random random(3);
  for (size_t i = 0; i < rows.size(); ++i) {
    Row& row = rows[i];
    for (int64_t t = 0; t < kVocabulary; ++t)
      row.logits.push_back(static_cast<float>(random.uniform() * 8 + random.uniform() * 8));
    row.parameters.temperature = i % 3 == 0 ? 0 : 0.8;
    row.parameters.top_p = i % 3 == 1 ? 0.9 : 1;
    row.parameters.top_k = i % 4 == 1 ? 30 : 0;
    if (i % 5 == 2) row.parameters.logit_bias = {{40000, 3.0F}, {8192, -100.0F}};
    row.given = i == 7;
  }
  rows[3].logits[16384] = rows[3].logits[100] = 50;  // equals in different chunks
  rows[8].logits[kVocabulary - 1] = std::numeric_limits<float>::quiet_NaN();
  return rows;
}

std::vector<SampleRequest> requests_of(std::vector<Row>& rows, size_t count) {
  std::vector<SampleRequest> requests;
  for (size_t i = 0; i < count; ++i) {
    SampleRequest request{
        .logits = rows[i].logits, .parameters = &rows[i].parameters, .seed = i, .logprob = i % 2 == 0};
    request.top = std::span(rows[i].top).first(i % 2 == 0 ? 4 : 0);
    if (rows[i].given) request.given = 77;
    requests.push_back(request);
  }
  return requests;
}

std::vector<uint32_t> bits_of(std::span<const Sample> samples, const std::vector<Row>& rows) {
  std::vector<uint32_t> bits;
  for (size_t i = 0; i < samples.size(); ++i) {
    bits.push_back(static_cast<uint32_t>(samples[i].status));
    bits.push_back(static_cast<uint32_t>(samples[i].token));
    bits.push_back(std::bit_cast<uint32_t>(samples[i].logprob));
    for (const chat::TokenLogprob& entry : rows[i].top) {
      bits.push_back(static_cast<uint32_t>(entry.token));
      bits.push_back(std::bit_cast<uint32_t>(entry.logprob));
    }
  }
  return bits;
}

// Whether a thread takes a row or threads share it shows only in the time it takes.
TEST(BatchSampler, TheSameBitsForAnyNumberOfThreadsAndRows) {
  for (const size_t count : {1U, 2U, 5U, 11U}) {
    std::vector<Row> alone = make_rows();
    std::vector<Sample> expected;
    Sampler sampler(kVocabulary);
    for (const SampleRequest& request : requests_of(alone, count))
      expected.push_back(sampler.sample(request));
    EXPECT_TRUE(count <= 3 || expected[3].token == 100);
    EXPECT_TRUE(count <= 8 || expected[8].status == SampleStatus::not_finite);
    for (const int64_t threads : {1, 2, 3, 4, 7}) {
      std::vector<Row> rows = make_rows();
      const auto backend = compute::make_cpu_backend({.threads = threads});
      BatchSampler batch(kVocabulary, 11, *backend);
      EXPECT_EQ(bits_of(batch.sample(requests_of(rows, count)), rows), bits_of(expected, alone))
          << count << " rows, " << threads << " threads";
    }
  }
}

// The test above would see it if rows were mixed up: each row's bits are its own.
TEST(BatchSampler, RowsDiffer) {
  std::vector<Row> rows = make_rows();
  const auto backend = compute::make_cpu_backend({.threads = 3});
  BatchSampler batch(kVocabulary, 11, *backend);
  const auto samples = batch.sample(requests_of(rows, 11));
  for (size_t i = 0; i < samples.size(); ++i)
    for (size_t j = 0; j < i; ++j)
      EXPECT_TRUE(samples[i].token != samples[j].token || samples[i].status != samples[j].status)
          << i << " and " << j;
}

}  // namespace
}  // namespace neutrino::engine
