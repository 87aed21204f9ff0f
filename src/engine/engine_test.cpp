#include "engine/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <stdexcept>

#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using chat::FinishReason;
using ::testing::ElementsAreArray;
using testing::FakeBackend;
using testing::FakeModel;
using ::testing::HasSubstr;

std::vector<int32_t> prompt(int64_t size, int32_t first = 3) {
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < size; ++i) tokens.push_back(static_cast<int32_t>((first + i * 7) % 60));
  return tokens;
}

chat::GenerationRequest greedy(std::vector<int32_t> tokens, int64_t max_tokens) {
  return {
      .id = "test", .prompt = std::move(tokens), .sampling = {.temperature = 0, .max_tokens = max_tokens}};
}

std::vector<int32_t> generated(const Sequence& sequence) {
  return testing::generated_tokens(sequence.stream);
}

// An engine over a FakeModel, stepped by the test.
struct Rig {
  explicit Rig(EngineOptions options = {}) : engine(model, backend, std::move(options), metrics, clock) {}
  FakeModel model{64, 1024};
  FakeBackend backend;
  Metrics metrics;
  SimulatedClock clock;
  Engine engine;

  SequencePtr submit(chat::GenerationRequest request) { return engine.submit(std::move(request)); }
  void run_until_idle() {
    for (int i = 0; i < 10000 && engine.step(); ++i) engine.blocks().check_invariants();
  }
  bool step() {
    clock.advance_ns(1'000'000);
    return engine.step();
  }
};

Error refusal(Rig& rig, chat::GenerationRequest request) {
  try {
    rig.submit(std::move(request));
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "was not refused");
}

TEST(Engine, ContinuesAPrompt) {
  Rig rig;
  const auto sequence = rig.submit(greedy(prompt(40), 20));
  rig.run_until_idle();
  EXPECT_TRUE(sequence->stream.finished());
  EXPECT_EQ(sequence->stream.reason(), FinishReason::length);
  EXPECT_THAT(generated(*sequence), ElementsAreArray(rig.model.continuation(prompt(40), 20)));
  EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
}

TEST(Engine, CutsPromptsIntoTheTokenBudgetAndDecodesFirst) {
  Rig rig({.max_sequences = 4, .batch_tokens = 16, .prefix_cache = PrefixCache::off});
  int64_t most = 0;
  rig.model.before_forward = [&](const compute::Batch& batch) {
    most = std::max(most, std::ssize(batch.tokens));
  };
  const auto decoding = rig.submit(greedy(prompt(5), 50));
  rig.step();
  const auto filling = rig.submit(greedy(prompt(100, 9), 4));
  for (int i = 0; i < 5; ++i) {
    const int64_t before = decoding->stream.size();
    rig.step();
    EXPECT_EQ(decoding->stream.size(), before + 1) << "a decoding sequence gets its row in every step";
  }
  EXPECT_EQ(filling->computed, 5 * 15);
  EXPECT_EQ(most, 16);
  rig.run_until_idle();
  EXPECT_THAT(generated(*filling), ElementsAreArray(rig.model.continuation(prompt(100, 9), 4)));
}

// A machine that takes 1 ms a row: a stream beside a prompt of 800 tokens waits about kPromptStepNs for each of its tokens,
// where one chunk of all the budget would take half a second. Alone, the prompt gets the whole budget.
TEST(Engine, APromptBesideAStreamComesInChunksThatTakeLittleTime) {
  Rig rig({.max_sequences = 4, .batch_tokens = 512, .prefix_cache = PrefixCache::off});
  std::vector<int64_t> rows;
  rig.model.before_forward = [&](const compute::Batch& batch) {
    rows.push_back(std::ssize(batch.tokens));
    rig.clock.advance_ns(1'000'000 * rows.back());
  };
  const auto stream = rig.submit(greedy(prompt(5), 100));
  rig.step();
  const auto beside = rig.submit(greedy(prompt(800, 9), 2));
  while (beside->stream.size() == 0) rig.step();
  EXPECT_LE(rows[1], kPromptRowsFirst + 1) << "nothing is known of the machine yet";
  for (size_t i = 2; i < rows.size(); ++i) EXPECT_LE(rows[i], 42) << "step " << i;
  EXPECT_GE(rows[3], 36);
  EXPECT_THAT(generated(*beside)[0], rig.model.continuation(prompt(800, 9), 1)[0]);
  rig.run_until_idle();
  rows.clear();
  rig.submit(greedy(prompt(800, 11), 2));
  rig.run_until_idle();
  EXPECT_EQ(rows[0], 512);
}

TEST(PromptPace, FollowsTheMachineBetweenItsBounds) {
  PromptPace pace(512);
  for (int i = 0; i < 20; ++i) pace.observe(pace.rows(), pace.rows() * 10'000);  // 10 us a row
  EXPECT_EQ(pace.rows(), 512);
  pace.observe(512, 512 * int64_t{10'000'000});
  EXPECT_EQ(pace.rows(), kPromptRowsMin);
  pace.observe(3, 1);  // says nothing
  EXPECT_EQ(pace.rows(), kPromptRowsMin);
  for (int i = 0; i < 20; ++i) pace.observe(pace.rows(), pace.rows() * 200'000);
  EXPECT_NEAR(static_cast<double>(pace.rows()), 200, 2);
  EXPECT_EQ(PromptPace(16).rows(), 16);
}

TEST(Engine, SharesPrefixesOnlyInsideASalt) {
  Rig rig;
  const auto run = [&](const std::string& salt) {
    auto request = greedy(prompt(100), 8);
    request.cache_salt = salt;
    const auto sequence = rig.submit(std::move(request));
    rig.run_until_idle();
    EXPECT_THAT(generated(*sequence), ElementsAreArray(rig.model.continuation(prompt(100), 8)));
    return sequence->cached_tokens;
  };
  EXPECT_EQ(run("a"), 0);
  EXPECT_EQ(run("a"), 96);
  EXPECT_EQ(run("b"), 0);
}

TEST(Engine, AWholeCachedPromptStillComputesItsLastToken) {
  Rig rig;
  rig.submit(greedy(prompt(64), 4));
  rig.run_until_idle();
  const auto again = rig.submit(greedy(prompt(64), 4));
  rig.run_until_idle();
  EXPECT_EQ(again->cached_tokens, 32);
  EXPECT_THAT(generated(*again), ElementsAreArray(rig.model.continuation(prompt(64), 4)));
}

TEST(Engine, PreemptsTheYoungestAndItsResultStaysTheSame) {
  Rig rig({.max_sequences = 4, .batch_tokens = 64, .kv_blocks = 6, .prefix_cache = PrefixCache::off});
  std::vector<SequencePtr> sequences;
  for (int32_t i = 0; i < 4; ++i) sequences.push_back(rig.submit(greedy(prompt(30, i), 90)));
  rig.run_until_idle();
  EXPECT_GT(rig.engine.scheduler().preemptions(), 0);
  EXPECT_EQ(sequences[0]->preemptions, 0) << "the oldest keeps its blocks";
  for (int32_t i = 0; i < 4; ++i)
    EXPECT_THAT(generated(*sequences[static_cast<size_t>(i)]),
                ElementsAreArray(rig.model.continuation(prompt(30, i), 90)));
  EXPECT_EQ(rig.engine.blocks().counts().free, 6);
}

TEST(Engine, CancelsInTheQueueInPrefillAndInDecode) {
  Rig rig({.max_sequences = 2, .batch_tokens = 16, .prefix_cache = PrefixCache::off});
  const auto decode = rig.submit(greedy(prompt(4), 500));
  rig.step();
  const auto prefill = rig.submit(greedy(prompt(200), 5));
  rig.step();
  const auto queued = rig.submit(greedy(prompt(4), 5));
  rig.step();
  ASSERT_GT(decode->stream.size(), 0);
  ASSERT_GT(prefill->computed, 0);
  ASSERT_EQ(queued->scheduled_ns, 0);
  for (const auto& sequence : {decode, prefill, queued}) rig.engine.end(*sequence, EndRequest::cancelled);
  rig.step();
  for (const auto& sequence : {decode, prefill, queued}) {
    EXPECT_TRUE(sequence->stream.finished());
    EXPECT_EQ(sequence->stream.reason(), FinishReason::cancelled);
  }
  EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
  EXPECT_EQ(rig.engine.status().waiting, 0);
  EXPECT_THAT(
      rig.metrics.text(),
      HasSubstr("vllm:request_success_total{engine=\"0\",finished_reason=\"abort\",model_name=\"model\"} 3"));
}

TEST(Engine, EndsAtEndTokensUnlessTold) {
  const FakeModel model(64, 1024);
  const auto expected = model.continuation(prompt(10), 30);
  const int32_t end = expected[5];
  const size_t first = static_cast<size_t>(std::ranges::find(expected, end) - expected.begin());
  Rig rig({.end_tokens = {end}});
  const auto stopped = rig.submit(greedy(prompt(10), 30));
  auto ignoring = greedy(prompt(10), 30);
  ignoring.sampling.ignore_eos = true;
  const auto going = rig.submit(ignoring);
  auto late = greedy(prompt(10), 30);
  late.sampling.min_tokens = 12;
  const auto delayed = rig.submit(late);
  rig.run_until_idle();
  EXPECT_EQ(stopped->stream.reason(), FinishReason::stop);
  EXPECT_EQ(stopped->stream.size(), static_cast<int64_t>(first) + 1);
  EXPECT_THAT(generated(*going), ElementsAreArray(expected));
  EXPECT_GE(delayed->stream.size(), 12);
  for (int64_t i = 0; i < 12; ++i) EXPECT_NE(delayed->stream.record(i).token, end);
}

TEST(Engine, ScoresThePromptWhenAsked) {
  Rig rig({.batch_tokens = 50});
  const auto tokens = prompt(120);
  rig.submit(greedy(tokens, 1));
  rig.run_until_idle();
  auto request = greedy(tokens, 1);
  request.sampling.prompt_logprobs = 2;
  const auto sequence = rig.submit(request);
  rig.run_until_idle();
  EXPECT_EQ(sequence->cached_tokens, 0);
  std::vector<float> logits(64);
  for (size_t i = 1; i < tokens.size(); ++i) {
    rig.model.logits_after(std::span(tokens).first(i), logits);
    double sum = 0;
    for (const float x : logits) sum += std::exp(static_cast<double>(x));
    EXPECT_EQ(sequence->prompt_logprobs[i].token, tokens[i]);
    EXPECT_NEAR(sequence->prompt_logprobs[i].logprob, logits[static_cast<size_t>(tokens[i])] - std::log(sum),
                1e-5);
    const auto best = std::ranges::max_element(logits) - logits.begin();
    EXPECT_EQ(sequence->prompt_top(static_cast<int64_t>(i) - 1)[0].token, best);
  }
}

TEST(Engine, AnswersOnlyThePromptWithMaxTokensZero) {
  Rig rig;
  auto request = greedy(prompt(20), 0);
  request.sampling.prompt_logprobs = 0;
  const auto sequence = rig.submit(request);
  rig.run_until_idle();
  EXPECT_EQ(sequence->stream.reason(), FinishReason::length);
  EXPECT_EQ(sequence->stream.size(), 0);
  EXPECT_EQ(sequence->prompt_logprobs_done, 19);
}

TEST(Engine, RefusesWhatCannotRun) {
  Rig rig({.max_sequences = 2, .context_tokens = 256, .kv_blocks = 4});
  const auto with = [](auto change) {
    auto request = greedy(prompt(4), 4);
    change(request);
    return request;
  };
  struct Case {
    chat::GenerationRequest request;
    const char* param;
    const char* message;
  };
  const double nan = std::numeric_limits<double>::quiet_NaN(),
               infinity = std::numeric_limits<double>::infinity();
  const Case cases[] = {
      {with([](auto& r) { r.prompt = {}; }), "prompt", "none"},
      {with([](auto& r) { r.prompt = {-1}; }), "prompt", "-1"},
      {with([](auto& r) { r.prompt = {64}; }), "prompt", "64"},
      {with([](auto& r) { r.prompt = {std::numeric_limits<int32_t>::max()}; }), "prompt", "2147483647"},
      {with([](auto& r) { r.prompt = prompt(100), r.sampling.max_tokens = 29; }), "max_tokens", "100 + 29"},
      {with([](auto& r) { r.sampling.max_tokens = std::numeric_limits<int64_t>::max(); }), "max_tokens",
       "4 + 9223372036854775807"},
      {with([](auto& r) { r.sampling.max_tokens = -1; }), "max_tokens", "-1"},
      {with([](auto& r) { r.sampling.min_tokens = 5; }), "min_tokens", "5"},
      {with([&](auto& r) { r.sampling.temperature = nan; }), "temperature", "nan"},
      {with([&](auto& r) { r.sampling.temperature = infinity; }), "temperature", "inf"},
      {with([](auto& r) { r.sampling.temperature = -0.5; }), "temperature", "-0.5"},
      {with([&](auto& r) { r.sampling.top_p = nan; }), "top_p", "nan"},
      {with([](auto& r) { r.sampling.top_p = 0; }), "top_p", "0"},
      {with([](auto& r) { r.sampling.top_p = 1.5; }), "top_p", "1.5"},
      {with([](auto& r) { r.sampling.top_k = -2; }), "top_k", "-2"},
      {with([](auto& r) { r.sampling.min_p = 2; }), "min_p", "2"},
      {with([](auto& r) { r.sampling.presence_penalty = 3; }), "presence_penalty", "3"},
      {with([&](auto& r) { r.sampling.frequency_penalty = nan; }), "frequency_penalty", "nan"},
      {with([](auto& r) { r.sampling.repetition_penalty = 0; }), "repetition_penalty", "0"},
      {with([](auto& r) { r.sampling.logprobs = 21; }), "logprobs", "21"},
      {with([](auto& r) { r.sampling.prompt_logprobs = -1; }), "prompt_logprobs", "-1"},
      {with([](auto& r) { r.sampling.logit_bias = {{64, 1.0F}}; }), "logit_bias", "64"},
      {with([&](auto& r) { r.sampling.logit_bias = {{1, static_cast<float>(nan)}}; }), "logit_bias", "nan"},
      {with([](auto& r) { r.sampling.stop_token_ids = {-5}; }), "stop_token_ids", "-5"},
      {with([](auto& r) { r.sampling.stop = {""}; }), "stop", "0"},
      {with([](auto& r) { r.sampling.stop = std::vector<std::string>(17, "x"); }), "stop", "17"},
      {with([](auto& r) { r.sampling.stop = {std::string(1025, 'x')}; }), "stop", "1025"},
  };
  for (const Case& test : cases) {
    const Error error = refusal(rig, test.request);
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.message();
    EXPECT_EQ(error.param(), test.param) << error.message();
    EXPECT_THAT(error.message(), HasSubstr(test.message));
  }
  EXPECT_EQ(refusal(rig, cases[4].request).reason(), "context_length_exceeded");
  EXPECT_EQ(rig.engine.status().waiting, 0);
}

TEST(Engine, BoundsItsQueueByRequestsAndByTokens) {
  Rig rig({.max_sequences = 1, .batch_tokens = 8, .queued_requests_max = 3, .queued_tokens_max = 100});
  rig.submit(greedy(prompt(300), 10));  // alone, it may be longer than the limit on tokens
  EXPECT_EQ(refusal(rig, greedy(prompt(4), 4)).reason(), "queue_full");
  rig.step();
  for (int i = 0; i < 3; ++i) rig.submit(greedy(prompt(4), 4));
  const Error full = refusal(rig, greedy(prompt(4), 4));
  EXPECT_EQ(full.code(), ErrorCode::resource_exhausted);
  EXPECT_EQ(full.reason(), "queue_full");
  EXPECT_GT(rig.engine.status().queue_drain_seconds, -1);
  rig.run_until_idle();
  EXPECT_EQ(rig.engine.status().waiting, 0);
  EXPECT_THAT(rig.metrics.text(), HasSubstr("model_name=\"model\",reason=\"max_num_queued_reqs\"} 1"));
  EXPECT_THAT(rig.metrics.text(), HasSubstr("model_name=\"model\",reason=\"max_num_queued_tokens\"} 1"));
}

TEST(Engine, AnErrorFailsItsBatchAndTheRestGoesOn) {
  Rig rig({.max_sequences = 1});
  const auto fails = rig.submit(greedy(prompt(8), 8));
  const auto waits = rig.submit(greedy(prompt(9), 8));
  rig.model.before_forward = [&](const compute::Batch&) {
    rig.model.before_forward = nullptr;
    throw Error(ErrorCode::internal, "no luck");
  };
  rig.run_until_idle();
  EXPECT_EQ(fails->stream.reason(), FinishReason::error);
  EXPECT_EQ(fails->stream.error()->message(), "no luck");
  EXPECT_THAT(generated(*waits), ElementsAreArray(rig.model.continuation(prompt(9), 8)));
  EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
}

TEST(Engine, LogitsThatAreNoNumbersEndOneSequence) {
  Rig rig;
  rig.model.poison = 63;
  auto bad = prompt(8);
  bad.back() = 63;
  const auto poisoned = rig.submit(greedy(bad, 8));
  const auto other = rig.submit(greedy(prompt(8), 1));
  rig.run_until_idle();
  EXPECT_EQ(poisoned->stream.reason(), FinishReason::error);
  EXPECT_THAT(poisoned->stream.error()->message(), HasSubstr("not finite"));
  EXPECT_EQ(other->stream.reason(), FinishReason::length);
}

TEST(Engine, ABugEndsItLoudlyAndTellsEverybody) {
  Rig rig({.max_sequences = 1});
  const auto running = rig.submit(greedy(prompt(8), 100));
  const auto waiting = rig.submit(greedy(prompt(8), 100));
  rig.step();
  int deaths = 0, wakes = 0;
  rig.engine.set_on_death([&] { ++deaths; });
  rig.engine.set_wake([&] { ++wakes; });
  rig.model.before_forward = [](const compute::Batch&) { throw std::runtime_error("a bug"); };
  EXPECT_FALSE(rig.step());
  for (const auto& sequence : {running, waiting}) {
    ASSERT_TRUE(sequence->stream.finished());
    EXPECT_EQ(sequence->stream.error()->reason(), "engine_dead");
  }
  EXPECT_EQ(deaths, 1);
  EXPECT_EQ(wakes, 1);
  EXPECT_TRUE(rig.engine.status().dead);
  EXPECT_EQ(rig.engine.status().death_message, "a bug");
  EXPECT_EQ(refusal(rig, greedy(prompt(8), 4)).reason(), "engine_dead");
}

TEST(Engine, CountsUnderTheNamesThatDashboardsRead) {
  Rig rig({.max_sequences = 2, .batch_tokens = 16, .kv_blocks = 4});
  for (int32_t i = 0; i < 2; ++i) rig.submit(greedy(prompt(40, i), 60));
  while (rig.step()) {
  }
  rig.submit(greedy(prompt(40, 1), 3));
  while (rig.step()) {
  }
  const std::string text = rig.metrics.text(), labels = "{engine=\"0\",model_name=\"model\"}";
  const std::pair<const char*, double> values[] = {
      {"vllm:num_requests_running", 0},
      {"vllm:num_requests_waiting", 0},
      {"vllm:kv_cache_usage_perc", 0},
      {"vllm:prompt_tokens_total", 120},
      {"vllm:prompt_tokens_cached_total", 32},
      {"vllm:generation_tokens_total", 123},
      {"vllm:prefix_cache_queries_total", 120},
      {"vllm:prefix_cache_hits_total", 32},
      {"vllm:time_to_first_token_seconds_count", 3},
      {"vllm:inter_token_latency_seconds_count", 120},
      {"vllm:request_time_per_output_token_seconds_count", 3},
      {"vllm:e2e_request_latency_seconds_count", 3},
      {"vllm:request_queue_time_seconds_count", 3},
      {"vllm:request_prefill_time_seconds_count", 3},
      {"vllm:request_decode_time_seconds_count", 3},
      {"vllm:request_inference_time_seconds_count", 3},
      {"vllm:request_prompt_tokens_sum", 120},
      {"vllm:request_generation_tokens_sum", 123},
      {"vllm:request_params_max_tokens_sum", 123},
      {"vllm:request_max_num_generation_tokens_sum", 123},
      {"vllm:request_prefill_kv_computed_tokens_sum", 88},
  };
  for (const auto& [name, value] : values)
    EXPECT_THAT(text, HasSubstr(fmt::format("{}{} {}\n", name, labels, value)));
  for (const char* series :
       {"vllm:iteration_tokens_total_bucket{engine=\"0\",model_name=\"model\",le=\"16\"}",
        "vllm:request_num_preemptions_count",
        "vllm:time_to_first_token_seconds_bucket{engine=\"0\",model_name=\"model\",le=\"0.001\"}",
        "vllm:cache_config_info{block_size=\"32\"",
        "vllm:inter_token_latency_seconds_bucket{engine=\"0\",model_name=\"model\",le=\"0.0025\"}",
        "neutrino_engine_steps_total", "finished_reason=\"length\",model_name=\"model\"} 3",
        "neutrino_kv_blocks{engine=\"0\",model_name=\"model\",state=\"cached\"}"})
    EXPECT_THAT(text, HasSubstr(series));
  EXPECT_GT(rig.metrics.counter("vllm:num_preemptions_total", "", {{"engine", "0"}, {"model_name", "model"}})
                .Value(),
            0);
}

TEST(Engine, TellsHowLongItHasMadeNoProgress) {
  Rig rig;
  rig.step();
  EXPECT_EQ(rig.engine.status().since_progress_ns, 0);
  rig.clock.advance_ns(11'000'000'000);
  EXPECT_EQ(rig.engine.status().since_progress_ns, 11'000'000'000);
  rig.step();  // with nothing to do: that is progress, too
  EXPECT_EQ(rig.engine.status().since_progress_ns, 0);
}

TEST(Engine, RunsOnItsOwnThread) {
  FakeModel model(64, 1024);
  FakeBackend backend;
  Metrics metrics;
  SystemClock clock;
  Engine engine(model, backend, {}, metrics, clock);
  engine.start();
  std::vector<std::future<std::vector<int32_t>>> results;
  for (int32_t i = 0; i < 8; ++i)
    results.push_back(std::async(std::launch::async, [&engine, i] {
      const auto sequence = engine.submit(greedy(prompt(20 + i, i), 40));
      uint32_t version = sequence->stream.version();
      while (!sequence->stream.finished()) {
        sequence->stream.wait(version);
        version = sequence->stream.version();
      }
      return generated(*sequence);
    }));
  for (int32_t i = 0; i < 8; ++i)
    EXPECT_THAT(results[static_cast<size_t>(i)].get(),
                ElementsAreArray(model.continuation(prompt(20 + i, i), 40)));
  const auto unfinished = engine.submit(greedy(prompt(3), 1000));
  engine.stop();
  EXPECT_TRUE(unfinished->stream.finished());
}

}  // namespace
}  // namespace neutrino::engine
