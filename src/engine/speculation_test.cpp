// Speculation changes when tokens come, and nothing else.
#include "engine/speculation.h"

#include <gtest/gtest.h>

#include <bit>
#include <chrono>
#include <cstdlib>

#include "base/random.h"
#include "engine/engine.h"
#include "engine/testing/fake_model.h"
#include "engine/testing/loaded_model.h"
#include "engine/testing/speculation_fault.h"

namespace neutrino::engine {
namespace {

using chat::GenerationRequest;
using testing::FakeBackend, testing::FakeModel;

double value_of(Metrics& metrics, const std::string& series) {
  const std::string text = metrics.text();
  const size_t place = text.find("\n" + series);
  if (place == std::string::npos) return -1;
  return std::strtod(text.c_str() + text.find(' ', place) + 1, nullptr);
}

// ---- what a row costs

TEST(StepCost, FindsTheLineThatStepsLieOn) {
  StepCost cost;
  for (int64_t i = 0; i < 200; ++i) {
    const int64_t rows = 1 + i % 5;
    cost.observe(rows, 5'000'000 + 300'000 * rows);
  }
  EXPECT_NEAR(cost.row(), 300'000, 20'000);
  EXPECT_NEAR(cost.of(3), 5'900'000, 50'000);
}

TEST(StepCost, KnowsOneSizeAndGuessesTheRest) {
  StepCost cost;
  for (int64_t i = 0; i < 200; ++i) cost.observe(1, 1'000'000);
  EXPECT_NEAR(cost.of(1), 1'000'000, 1);
  EXPECT_NEAR(cost.row(), 200'000, 1);
}

TEST(StepCost, AStalledStepCountsLittle) {
  StepCost cost;
  for (int64_t i = 0; i < 100; ++i) cost.observe(1 + i % 3, 1'000'000 + 100'000 * (i % 3));
  cost.observe(3, 1'000'000'000);
  EXPECT_LT(cost.row(), 200'000);
}

// ---- the same bits

struct Answer {
  std::vector<uint32_t> bits;  // tokens, log probabilities, alternatives
  chat::FinishReason reason = chat::FinishReason::error;
  bool operator==(const Answer&) const = default;
};

Answer answer_of(const Sequence& sequence) {
  Answer answer{.reason = sequence.stream.reason()};
  const auto add = [&](const chat::TokenLogprob& entry) {
    answer.bits.push_back(static_cast<uint32_t>(entry.token));
    answer.bits.push_back(std::bit_cast<uint32_t>(entry.logprob));
  };
  for (int64_t i = 0; i < sequence.stream.size(); ++i) {
    add(sequence.stream.record(i));
    std::ranges::for_each(sequence.stream.top(i), add);
  }
  return answer;
}

struct Outcome {
  std::vector<Answer> answers;
  int64_t steps = 0;
  double drafts = 0, draft_tokens = 0, accepted = 0, first_accepted = 0;
};

Outcome run(const models::Model& model, compute::Backend& backend, EngineOptions options,
            int64_t draft_tokens, const std::vector<GenerationRequest>& requests, bool fault = false) {
  Metrics metrics;
  SystemClock clock;
  options.speculation.draft_tokens = draft_tokens;
  Engine engine(model, backend, std::move(options), metrics, clock);
  if (fault) SpeculationFault::accept_too_many(engine);
  std::vector<SequencePtr> sequences;
  for (const GenerationRequest& request : requests) sequences.push_back(engine.submit(request));
  Outcome outcome;
  while (engine.step()) ++outcome.steps;
  for (const SequencePtr& sequence : sequences) outcome.answers.push_back(answer_of(*sequence));
  const auto counter = [&](const char* name) {
    return value_of(metrics, fmt::format("vllm:spec_decode_num_{}", name));
  };
  outcome.drafts = counter("drafts_total");
  outcome.draft_tokens = counter("draft_tokens_total");
  outcome.accepted = counter("accepted_tokens_total");
  outcome.first_accepted = counter("accepted_tokens_per_pos_total");
  return outcome;
}

// Greedy and sampled, with penalties, log probabilities, a minimum of tokens, end tokens, and one that wants no draft.
std::vector<GenerationRequest> requests_of_all_kinds(int64_t vocab_size, int64_t max_tokens) {
  Random random(11);
  std::vector<int32_t> shared;
  for (int i = 0; i < 70; ++i) shared.push_back(static_cast<int32_t>(random.below(vocab_size)));
  std::vector<GenerationRequest> requests;
  for (int64_t kind = 0; kind < 12; ++kind) {
    GenerationRequest request{.id = std::to_string(kind), .prompt = shared};
    request.prompt.resize(static_cast<size_t>(random.between(1, 70)));
    for (int64_t i = 0; i <= kind % 3 * 20; ++i)
      request.prompt.push_back(static_cast<int32_t>(random.below(vocab_size)));
    chat::SamplingParameters& sampling = request.sampling;
    sampling = {.temperature = kind % 3 == 0 ? 0 : 0.3, .seed = 40 + static_cast<uint64_t>(kind)};
    sampling.max_tokens = max_tokens - kind;
    if (kind % 4 == 1) sampling.repetition_penalty = 1.01, sampling.frequency_penalty = 0.01;
    if (kind % 4 == 2) sampling.top_p = 0.9, sampling.logit_bias = {{3, 0.5F}};
    if (kind % 2 == 0) sampling.logprobs = 3;
    if (kind == 5) sampling.min_tokens = max_tokens / 2;
    if (kind == 6) sampling.prompt_logprobs = 1;
    if (kind == 7) sampling.draft_tokens = 0;
    if (kind == 8) sampling.draft_tokens = 1;
    sampling.ignore_eos = kind % 3 != 2;
    requests.push_back(std::move(request));
  }
  return requests;
}

TEST(Speculation, AFakeModelGivesTheSameBitsInFewerSteps) {
  for (const auto kind : {FakeModel::Kind::attention, FakeModel::Kind::windowed, FakeModel::Kind::sliding}) {
    FakeModel model(24, 512, kind, 40);
    model.remembers = 2;
    FakeBackend backend;
    const auto requests = requests_of_all_kinds(24, 200);
    const EngineOptions options{.max_sequences = 5, .batch_tokens = 64, .end_tokens = {23}};
    const Outcome without = run(model, backend, options, 0, requests);
    for (const int64_t draft_tokens : {1, 3, 8, 32}) {
      const Outcome with = run(model, backend, options, draft_tokens, requests);
      EXPECT_EQ(with.answers, without.answers) << draft_tokens;
      EXPECT_LT(with.steps, without.steps * 95 / 100);  // most are sampled, and hard to guess
      EXPECT_GT(with.drafts, 0);
      EXPECT_GT(with.accepted, 0.5 * with.draft_tokens);
      EXPECT_GT(with.first_accepted, 0);
    }
    EXPECT_EQ(without.drafts, 0);
  }
}

TEST(Speculation, LittleMemoryAndPreemptionsChangeNothing) {
  FakeModel model(24, 512);
  model.remembers = 2;
  FakeBackend backend;
  const auto requests = requests_of_all_kinds(24, 200);
  const Outcome without = run(model, backend, {.max_sequences = 5, .end_tokens = {23}}, 0, requests);
  for (const PrefixCache cache : {PrefixCache::on, PrefixCache::off}) {
    const Outcome with = run(
        model, backend,
        {.max_sequences = 5, .batch_tokens = 16, .kv_blocks = 14, .prefix_cache = cache, .end_tokens = {23}},
        8, requests);
    EXPECT_EQ(with.answers, without.answers);
  }
}

TEST(Speculation, OneTokenAcceptedTooManyIsFound) {
  FakeModel model(24, 512);
  model.remembers = 2;
  FakeBackend backend;
  const auto requests = requests_of_all_kinds(24, 200);
  const EngineOptions options{.max_sequences = 5, .end_tokens = {23}};
  const Outcome without = run(model, backend, options, 0, requests);
  const Outcome faulty = run(model, backend, options, 8, requests, true);
  int64_t different = 0;
  for (size_t i = 0; i < requests.size(); ++i) different += faulty.answers[i] != without.answers[i];
  EXPECT_GT(different, 3);
}

// Models of which one drafts for the other.
struct Pair {
  explicit Pair(FakeModel::Kind kind = FakeModel::Kind::attention) : model(24, 512, kind, 40) {
    model.remembers = draft.remembers = 2;
    options.speculation = {.prompt_lookup = false, .draft_model = &draft, .draft_backend = &draft_backend};
  }
  FakeModel model, draft{24, 512};
  FakeBackend backend, draft_backend;
  EngineOptions options{.max_sequences = 5, .batch_tokens = 64, .end_tokens = {23}};
};

TEST(Speculation, ADraftModelThatThinksAlikeIsAlwaysRight) {
  for (const auto kind : {FakeModel::Kind::attention, FakeModel::Kind::windowed}) {
    Pair pair(kind);
    auto requests = requests_of_all_kinds(24, 200);
    const Outcome without = run(pair.model, pair.backend, pair.options, 0, requests);
    const Outcome with = run(pair.model, pair.backend, pair.options, 4, requests);
    EXPECT_EQ(with.answers, without.answers);
    EXPECT_LT(with.steps, without.steps * 8 / 10);  // as many as are worth their time
    EXPECT_GT(with.accepted,
              0.9 * with.draft_tokens);  // sampled or not; penalties know the last tokens alone
    pair.options.speculation.prompt_lookup = true;
    EXPECT_EQ(run(pair.model, pair.backend, pair.options, 4, requests).answers, without.answers);
  }
}

TEST(Speculation, ADraftModelThatIsWrongChangesNothing) {
  Pair pair;
  pair.draft.remembers = 1;
  const auto requests = requests_of_all_kinds(24, 200);
  const Outcome without = run(pair.model, pair.backend, pair.options, 0, requests);
  for (const PrefixCache cache : {PrefixCache::on, PrefixCache::off}) {
    EngineOptions options = pair.options;
    options.prefix_cache = cache;
    options.kv_blocks = 14;  // with preemptions
    const Outcome with = run(pair.model, pair.backend, options, 8, requests);
    EXPECT_EQ(with.answers, without.answers);
    EXPECT_LT(with.accepted, 0.5 * with.draft_tokens);
    EXPECT_GT(with.drafts, 10);
  }
}

TEST(Speculation, RefusesADraftModelThatCannotDraft) {
  FakeModel model(24, 512), sliding(24, 512, FakeModel::Kind::sliding, 40);
  FakeModel recurrent(24, 512, FakeModel::Kind::recurrent), smaller(20, 512);
  const auto refusal = [](const FakeModel& large, const FakeModel& draft) -> std::string {
    FakeBackend backend, draft_backend;
    Metrics metrics;
    SystemClock clock;
    try {
      const Engine engine(
          large, backend,
          {.speculation = {.draft_tokens = 4, .draft_model = &draft, .draft_backend = &draft_backend}},
          metrics, clock);
    } catch (const Error& error) {
      return error.message();
    }
    return "";
  };
  EXPECT_EQ(refusal(model, model), "");
  EXPECT_NE(refusal(model, recurrent).find("recurrent"), std::string::npos);
  EXPECT_NE(refusal(model, smaller).find("got 20"), std::string::npos);
  EXPECT_NE(refusal(sliding, model).find("window"), std::string::npos);
}

// Of a real model, itself as the draft: in steps of up to five rows, and all guesses are right.
TEST(Speculation, ARealDraftModelGivesTheSameBits) {
  const testing::LoadedModel loaded(testing::tiny_model_path("q4_1"), {.threads = 2});
  const testing::LoadedModel draft(testing::tiny_model_path("q4_1"), {.threads = 1});
  const auto requests = requests_of_all_kinds(loaded.model->config().vocab_size, 60);
  EngineOptions options{.max_sequences = 6, .kv_blocks = 64};
  const Outcome without = run(*loaded.model, *loaded.backend, options, 0, requests);
  options.speculation = {
      .prompt_lookup = false, .draft_model = draft.model.get(), .draft_backend = draft.backend.get()};
  const Outcome with = run(*loaded.model, *loaded.backend, options, 4, requests);
  EXPECT_EQ(with.answers, without.answers);
  EXPECT_GT(with.accepted, 0.9 * with.draft_tokens);
  EXPECT_GT(with.drafts, 5);
}

// The kernels' bits do not depend on how many rows stand together, so neither does the answer, in either arithmetic.
TEST(Speculation, ARealModelGivesTheSameBits) {
  for (const auto arithmetic : {compute::Arithmetic::integer, compute::Arithmetic::float32}) {
    const testing::LoadedModel loaded(testing::tiny_model_path("q4_1"),
                                      {.arithmetic = arithmetic, .threads = 2});
    auto requests = requests_of_all_kinds(loaded.model->config().vocab_size, 90);
    for (GenerationRequest& request : requests) request.sampling.logit_bias = {{5, 9.0F}, {6, 8.5F}};
    const EngineOptions options{.max_sequences = 6, .kv_blocks = 64};
    const Outcome without = run(*loaded.model, *loaded.backend, options, 0, requests);
    const Outcome with = run(*loaded.model, *loaded.backend, options, 8, requests);
    EXPECT_EQ(with.answers, without.answers);
    EXPECT_GT(with.accepted, 50);
    EXPECT_LT(with.steps, without.steps);
  }
}

// ---- when it does not pay

// A model that remembers everything never does again what it did: no guess is right.
TEST(Speculation, StopsWhereNoGuessIsRight) {
  FakeModel model(3, 2048);  // few tokens, so that there is always an earlier place
  FakeBackend backend;
  const std::vector<GenerationRequest> requests = {
      {.id = "a", .prompt = {1, 2}, .sampling = {.temperature = 0, .ignore_eos = true, .max_tokens = 1500}}};
  model.before_forward = [](const compute::Batch& batch) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds(20 * batch.tokens.size());
    while (std::chrono::steady_clock::now() < until) {
    }
  };
  const Outcome with = run(model, backend, {.max_sequences = 1}, 8, requests);
  EXPECT_LT(with.draft_tokens,
            0.1 * 1500);      // each row costs a whole step: a third is right, and that is too few
  EXPECT_GT(with.drafts, 3);  // but it tries again
}

TEST(Speculation, IsRefusedForRecurrentModels) {
  const FakeModel model(24, 512, FakeModel::Kind::recurrent);
  FakeBackend backend;
  Metrics metrics;
  SystemClock clock;
  const auto make = [&](int64_t draft_tokens) {
    const Engine engine(model, backend, {.speculation = {.draft_tokens = draft_tokens}}, metrics, clock);
  };
  EXPECT_NO_THROW(make(0));
  try {
    make(4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(error.message().find("fake"), std::string::npos) << error.message();
  }
}

}  // namespace
}  // namespace neutrino::engine
