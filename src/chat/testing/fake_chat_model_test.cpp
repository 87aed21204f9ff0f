#include "chat/testing/fake_chat_model.h"

#include <gtest/gtest.h>

#include <atomic>

namespace neutrino::chat::testing {
namespace {

GenerationChunk play_all(Generation& generation) {
  GenerationChunk all;
  while (!all.finish_reason) {
    GenerationChunk chunk = generation.wait();
    all.text += chunk.text;
    std::move(chunk.tokens.begin(), chunk.tokens.end(), std::back_inserter(all.tokens));
    all.finish_reason = chunk.finish_reason;
    all.usage = chunk.usage;
    all.error = chunk.error;
  }
  return all;
}

TEST(FakeChatModel, PlaysItsScriptAndWakes) {
  FakeChatModel model;
  std::atomic<int> wakes = 0;
  model.set_wake([&] { ++wakes; });
  model.add_script({.pieces = {"Zür", "ich"}, .delay = std::chrono::milliseconds(2)});
  const auto generation =
      model.generate({.id = "a", .prompt = model.tokenize("hi", true, true), .sampling = {.max_tokens = 64}});
  const GenerationChunk all = play_all(*generation);
  EXPECT_EQ(all.text, "Zürich");
  EXPECT_EQ(all.tokens.size(), 7U);
  EXPECT_EQ(all.tokens[2].text, "ü");
  EXPECT_EQ(all.finish_reason, FinishReason::stop);
  EXPECT_EQ(all.usage.prompt_tokens, 2);
  EXPECT_EQ(all.usage.completion_tokens, 7);
  EXPECT_GE(wakes, 1);
  EXPECT_EQ(generation->poll(), std::nullopt);
}

TEST(FakeChatModel, CutsAtMaxTokens) {
  FakeChatModel model;
  const auto generation = model.generate({.id = "a", .prompt = {1}, .sampling = {.max_tokens = 6}});
  const GenerationChunk all = play_all(*generation);
  EXPECT_EQ(all.text, "Hello,");
  EXPECT_EQ(all.finish_reason, FinishReason::length);
}

TEST(FakeChatModel, StallsUntilCancelled) {
  FakeChatModel model;
  model.add_script({.pieces = {"a"}, .stall = true});
  const auto generation = model.generate({.id = "a", .prompt = {1}});
  EXPECT_EQ(generation->wait().text, "a");
  EXPECT_EQ(model.active(), 1);
  EXPECT_TRUE(model.cancel("a"));
  EXPECT_EQ(generation->wait().finish_reason, FinishReason::cancelled);
  EXPECT_FALSE(model.cancel("a"));
  EXPECT_EQ(model.cancelled(), 1);
}

TEST(FakeChatModel, RefusesAndDiesOnRequest) {
  FakeChatModel model;
  model.refuse_next(Error(ErrorCode::resource_exhausted, "full").with_reason("queue_full"));
  EXPECT_THROW(model.generate({.id = "a", .prompt = {1}}), Error);
  model.add_script({.stall = true});
  const auto generation = model.generate({.id = "b", .prompt = {1}, .sampling = {.max_tokens = 100}});
  model.kill(Error(ErrorCode::internal, "bang"));
  const GenerationChunk all = play_all(*generation);
  EXPECT_EQ(all.finish_reason, FinishReason::error);
  EXPECT_EQ(all.error->message(), "bang");
  EXPECT_TRUE(model.status().dead);
}

}  // namespace
}  // namespace neutrino::chat::testing
