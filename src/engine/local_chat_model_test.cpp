#include "engine/local_chat_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "chat/testing/list_tokenizer.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using chat::FinishReason;
using chat::GenerationChunk;

constexpr int32_t kEnd = 63;

std::vector<std::string> words() {
  std::vector<std::string> tokens;
  for (int i = 0; i < kEnd; ++i) tokens.push_back(fmt::format("w{:02} ", i));
  tokens.push_back("<|end|>");
  return tokens;
}

struct Rig {
  explicit Rig(EngineOptions options = {.end_tokens = {kEnd}})
      : engine(model, backend, std::move(options), metrics, clock),
        chat(engine, tokenizer, nullptr, {.name = "fake"}) {
    engine.start();
  }
  ~Rig() { engine.stop(); }
  testing::FakeModel model{64, 1024};
  testing::FakeBackend backend;
  chat::testing::ListTokenizer tokenizer{words()};
  Metrics metrics;
  SystemClock clock;
  Engine engine;
  LocalChatModel chat;

  // A greedy request whose continuation the model foretells: 30 tokens that are no end token.
  chat::GenerationRequest request(int64_t max_tokens = 30) {
    for (int32_t first = 0;; ++first) {
      const std::vector<int32_t> prompt = {first, 5, 9};
      expected = model.continuation(prompt, 30);
      if (std::ranges::count(expected, kEnd) > 0) continue;
      return {.id = "r", .prompt = prompt, .sampling = {.temperature = 0, .max_tokens = max_tokens}};
    }
  }
  std::string expected_text(size_t count) const {
    return tokenizer::decode(tokenizer, std::span(expected).first(count), true);
  }
  std::vector<int32_t> expected;
};

GenerationChunk wait_all(chat::Generation& generation) {
  GenerationChunk all;
  while (!all.finish_reason) {
    GenerationChunk chunk = generation.wait();
    chunk.text.insert(0, all.text);
    chunk.tokens.insert(chunk.tokens.begin(), all.tokens.begin(), all.tokens.end());
    if (chunk.prompt_tokens.empty()) chunk.prompt_tokens = std::move(all.prompt_tokens);
    all = std::move(chunk);
  }
  EXPECT_EQ(generation.poll(), std::nullopt);
  return all;
}

TEST(LocalChatModel, StreamsTokensAndTheirText) {
  Rig rig;
  const auto generation = rig.chat.generate(rig.request());
  const GenerationChunk all = wait_all(*generation);
  EXPECT_EQ(all.text, rig.expected_text(30));
  EXPECT_EQ(all.finish_reason, FinishReason::length);
  EXPECT_EQ(all.usage.prompt_tokens, 3);
  EXPECT_EQ(all.usage.completion_tokens, 30);
  ASSERT_EQ(all.tokens.size(), 30U);
  EXPECT_EQ(all.tokens[4].text, rig.tokenizer.bytes(rig.expected[4]));
  EXPECT_GT(all.timings.decode_ms, 0);
}

TEST(LocalChatModel, AStopStringEndsTheGenerationAndIsCutOff) {
  Rig rig;
  auto request = rig.request(900);
  const std::string text = rig.expected_text(30);
  request.sampling.stop = {"never", text.substr(4 * 10 + 2, 5)};  // over the tokens 10, 11 and 12
  const auto generation = rig.chat.generate(request);
  const GenerationChunk all = wait_all(*generation);
  const size_t at = text.find(request.sampling.stop[1]);
  EXPECT_EQ(all.text, text.substr(0, at));
  EXPECT_EQ(all.finish_reason, FinishReason::stop);
  EXPECT_EQ(all.stop_reason, request.sampling.stop[1]);
  EXPECT_EQ(all.usage.completion_tokens, static_cast<int64_t>((at + 5 - 1) / 4 + 1));
  while (rig.engine.status().running > 0) std::this_thread::yield();  // the engine stops, too
  EXPECT_EQ(rig.engine.status().blocks[0].referenced, 0);
  EXPECT_THAT(rig.metrics.text(), ::testing::HasSubstr("finished_reason=\"stop\",model_name=\"model\"} 1"));

  request.sampling.include_stop_in_output = true;
  EXPECT_EQ(wait_all(*rig.chat.generate(request)).text, text.substr(0, at + 5));
}

TEST(LocalChatModel, AnEndTokenCountsAndIsNoText) {
  Rig rig;
  auto request = rig.request();
  request.sampling.stop_token_ids = {rig.expected[7]};
  const size_t first =
      static_cast<size_t>(std::ranges::find(rig.expected, rig.expected[7]) - rig.expected.begin());
  const GenerationChunk all = wait_all(*rig.chat.generate(request));
  EXPECT_EQ(all.text, rig.expected_text(first));
  EXPECT_EQ(all.stop_reason, std::to_string(rig.expected[7]));
  EXPECT_EQ(all.usage.completion_tokens, static_cast<int64_t>(first) + 1);
  EXPECT_EQ(all.tokens.size(), first + 1);
}

TEST(LocalChatModel, GivesLogprobsOfPromptAndAnswer) {
  Rig rig;
  auto request = rig.request(4);
  request.sampling.logprobs = 3;
  request.sampling.prompt_logprobs = 2;
  const GenerationChunk all = wait_all(*rig.chat.generate(request));
  ASSERT_EQ(all.tokens.size(), 4U);
  EXPECT_EQ(all.tokens[0].top.size(), 3U);
  EXPECT_EQ(all.tokens[0].top[0].token, all.tokens[0].token);
  EXPECT_EQ(all.tokens[0].top[0].logprob, all.tokens[0].logprob);
  ASSERT_EQ(all.prompt_tokens.size(), 3U);
  EXPECT_TRUE(std::isnan(all.prompt_tokens[0].logprob));
  EXPECT_LT(all.prompt_tokens[2].logprob, 0);
  EXPECT_EQ(all.prompt_tokens[2].top.size(), 2U);
  EXPECT_EQ(all.prompt_tokens[1].text, "w05 ");
}

TEST(LocalChatModel, CancelsByIdAndByDestruction) {
  std::atomic<bool> cancelled = false;
  Rig rig;
  rig.model.before_forward = [&](const compute::Batch&) { cancelled.wait(false); };
  const auto held = rig.chat.generate(rig.request(900));
  EXPECT_TRUE(rig.chat.cancel("r"));
  EXPECT_FALSE(rig.chat.cancel("other"));
  cancelled = true;
  cancelled.notify_all();
  EXPECT_EQ(wait_all(*held).finish_reason, FinishReason::cancelled);
  EXPECT_FALSE(rig.chat.cancel("r"));
  rig.chat.generate(rig.request(900)).reset();
  while (rig.chat.status().running + rig.chat.status().waiting > 0) std::this_thread::yield();
  EXPECT_EQ(rig.chat.status().kv_blocks_referenced, 0);
}

TEST(LocalChatModel, WakesAtMostOncePerStep) {
  Rig rig;
  std::atomic<int64_t> wakes = 0;
  rig.chat.set_wake([&] { ++wakes; });
  auto request = rig.request(30);
  const auto a = rig.chat.generate(request), b = rig.chat.generate(request);
  wait_all(*a);
  wait_all(*b);
  EXPECT_GE(wakes, 1);
  EXPECT_LE(wakes, rig.model.steps + 1);
}

TEST(LocalChatModel, SaysWhatItCannotDo) {
  Rig rig;
  EXPECT_THROW(rig.chat.render({}), Error);
  const std::vector<int32_t> unknown = {64};
  EXPECT_THROW(rig.chat.detokenize(unknown), Error);
  EXPECT_THROW(rig.chat.token_text(-1), Error);
  EXPECT_TRUE(rig.chat.status().ready);
}

}  // namespace
}  // namespace neutrino::engine
