#include "engine/thinking_phase.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "chat/answer_stream.h"
#include "chat/testing/list_tokenizer.h"

namespace neutrino::engine {
namespace {

using State = ThinkingPhase::State;

// One token is the tag, or it is made of several, among tokens that are nearly so.
struct Rig {
  explicit Rig(std::vector<std::string> texts)
      : tokenizer(std::move(texts)), tags(*chat::find_reasoning_tags("think")) {
    tokens = chat::make_thinking_tokens(tags, tokenizer);
  }
  int32_t id(std::string_view text) const { return *tokenizer.find(text); }
  chat::testing::ListTokenizer tokenizer;
  const chat::ReasoningTags& tags;
  std::shared_ptr<const chat::ThinkingTokens> tokens;
};

const std::vector<std::string> kWhole = {"<think>", "</think>", "\n\n", "a", " b", ".", "\n", "<", "x>"};
const std::vector<std::string> kPieces = {"<th", "ink>", "</", "th",  "ink", ">", "\n\n",
                                          "a",   " b",   ".",  ">\n", ">{",  "/", "<"};

TEST(ThinkingPhase, ForcesTheTagWhenTheBudgetIsSpent) {
  const Rig rig(kWhole);
  ThinkingPhase phase(rig.tokens, {.inside = true, .budget = 3, .before_grammar = true});
  for (const char* text : {"a", " b", "a"}) {
    EXPECT_EQ(phase.state(), State::inside);
    phase.advance(rig.id(text));
  }
  ASSERT_EQ(phase.state(), State::closing);
  EXPECT_EQ(phase.forced(), rig.id("</think>"));
  phase.advance(phase.forced());
  EXPECT_EQ(phase.forced(), rig.id("\n\n"));  // a grammar begins behind it
  phase.advance(phase.forced());
  EXPECT_EQ(phase.state(), State::done);
}

TEST(ThinkingPhase, AnEarlyEndIsSeen) {
  const Rig rig(kPieces);
  ThinkingPhase phase(rig.tokens, {.inside = true, .budget = 100});
  for (const char* text : {"a", "</", "th", "ink"}) phase.advance(rig.id(text));
  EXPECT_EQ(phase.state(), State::inside);
  phase.advance(rig.id(">\n"));
  EXPECT_EQ(phase.state(), State::done);
  EXPECT_TRUE(rig.tokens->closes_with_text[static_cast<size_t>(rig.id(">{"))]);
  EXPECT_FALSE(rig.tokens->closes_with_text[static_cast<size_t>(rig.id(">\n"))]);
}

TEST(ThinkingPhase, ReasoningBeginsWithTheAnswerOrNotAtAll) {
  const Rig rig(kWhole);
  ThinkingPhase thinks(rig.tokens, {.budget = 0});
  thinks.advance(rig.id("\n"));
  EXPECT_EQ(thinks.state(), State::outside);
  thinks.advance(rig.id("<think>"));
  EXPECT_EQ(thinks.state(), State::closing);
  ThinkingPhase answers(rig.tokens, {.budget = 0});
  answers.advance(rig.id("a"));
  EXPECT_EQ(answers.state(), State::done);
  answers.advance(rig.id("<think>"));
  EXPECT_EQ(answers.state(), State::done);
}

TEST(ThinkingPhase, PressureGrowsBehindSentences) {
  const Rig rig(kWhole);
  ThinkingPhase phase(rig.tokens, {.inside = true, .budget = 20});
  float last = 0;
  for (int i = 0; i < 19; ++i) {
    phase.advance(rig.id(i % 2 == 0 ? "a" : "."));
    if (i % 2 == 0 || i < 15) {
      EXPECT_EQ(phase.pressure(), 0) << i;
      continue;
    }
    EXPECT_GT(phase.pressure(), last) << i;
    last = phase.pressure();
  }
}

// Random tokens: what the parser says was thought is never more than the budget, and the answer goes on behind it.
TEST(ThinkingPhase, NeverExceedsTheBudget) {
  const int runs = std::getenv("NEUTRINO_TEST_LONG") != nullptr ? 20'000 : 1'000;
  std::mt19937 random(5);
  int forced = 0, spent = 0;
  for (int run = 0; run < runs; ++run) {
    const Rig rig(run % 2 == 0 ? kWhole : kPieces);
    const bool inside = run % 3 != 0;
    const int64_t budget = static_cast<int64_t>(random() % 40);
    ThinkingPhase phase(rig.tokens, {.inside = inside, .budget = budget, .before_grammar = run % 5 == 0});
    auto syntax = std::make_shared<chat::AnswerSyntax>();
    syntax->reasoning = &rig.tags;
    syntax->in_reasoning = inside;
    chat::AnswerStream stream(rig.tokenizer, {}, syntax, "id");
    for (int i = 0; i < 80; ++i) {
      int32_t token = static_cast<int32_t>(random() % static_cast<uint32_t>(rig.tokenizer.size()));
      if (phase.state() == State::closing) token = phase.forced(), ++forced;
      phase.advance(token);
      stream.push({.token = token});
    }
    stream.finish();
    ASSERT_LE(stream.reasoning_tokens(), budget) << run;
    ASSERT_LE(phase.thought(), budget) << run;
    ASSERT_TRUE(!inside || phase.state() == State::done) << run;
    spent += stream.reasoning_tokens() == budget && budget > 0;
  }
  EXPECT_GT(forced, runs / 4);
  EXPECT_GT(spent, runs / 10);
}

}  // namespace
}  // namespace neutrino::engine
