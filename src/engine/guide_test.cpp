// Grammars in the engine: whatever else a sequence asks for, its answer follows the grammar, and forced tokens are those that
// sampling one by one would give.
#include "engine/guide.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/grammar_tokens.h"
#include "chat/testing/list_tokenizer.h"
#include "engine/engine.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using chat::FinishReason;
using ::testing::Contains;
using ::testing::HasSubstr;

using text::GrammarKind;

constexpr int32_t kVocabulary = 64, kEnd = 63;

// Printable characters, a word and an end token.
const chat::testing::ListTokenizer& tokenizer() {
  static const chat::testing::ListTokenizer tokenizer = [] {
    std::vector<std::string> tokens;
    for (const char c : std::string_view("{}[]\":, 0123456789.-+abcdefghijklmnopqrstuvwxyzEN\n\t()"))
      tokens.emplace_back(1, c);
    tokens.emplace_back("name");
    while (std::ssize(tokens) < kEnd) tokens.emplace_back(fmt::format("x{}", tokens.size()));
    tokens.emplace_back("<|end|>");
    return chat::testing::ListTokenizer(std::move(tokens));
  }();
  return tokenizer;
}

const text::GrammarVocabulary& vocabulary() {
  static const text::GrammarVocabulary vocabulary(
      chat::grammar_tokens(tokenizer(), kVocabulary, std::vector<int32_t>{kEnd}));
  return vocabulary;
}

std::shared_ptr<const text::Grammar> compile(GrammarKind kind, std::string text) {
  return std::make_shared<const text::Grammar>(vocabulary(),
                                               text::GrammarSpec{.kind = kind, .text = std::move(text)});
}

// Much of it is forced, some is free, and it ends by itself.
std::shared_ptr<const text::Grammar> record_grammar() {
  static const auto grammar = compile(
      GrammarKind::lark,
      R"(start: "{\"name\":\"" /[a-z]{1,8}/ "\",\"abcdefgh\":[" /[0-9]/ ("," /[0-9]/)~2..4 "],\"end\":\"xyz\"}")");
  return grammar;
}

std::string text_of(const Sequence& sequence) {
  std::string text;
  for (const int32_t token : testing::generated_tokens(sequence.stream))
    if (token != kEnd) text += tokenizer().bytes(token);
  return text;
}

bool follows(const text::Grammar& grammar, const Sequence& sequence) {
  text::GrammarMatcher matcher(grammar);
  for (const int32_t token : testing::generated_tokens(sequence.stream))
    if (!matcher.consume(token)) return false;
  return matcher.is_accepting();
}

struct Rig {
  explicit Rig(EngineOptions options = {})
      : engine(model, backend, with_end(std::move(options)), metrics, clock) {}
  static EngineOptions with_end(EngineOptions options) {
    options.end_tokens = {kEnd};
    return options;
  }
  testing::FakeModel model{kVocabulary, 1024};
  testing::FakeBackend backend;
  Metrics metrics;
  SimulatedClock clock;
  Engine engine;

  SequencePtr submit(std::shared_ptr<const text::Grammar> grammar, chat::SamplingParameters sampling,
                     int32_t first = 3, int64_t prompt = 40) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < prompt; ++i) tokens.push_back(static_cast<int32_t>((first + i * 7) % 60));
    return engine.submit({.id = "test",
                          .prompt = std::move(tokens),
                          .sampling = std::move(sampling),
                          .grammar = std::move(grammar)});
  }
  int64_t run() {
    int64_t steps = 0;
    for (; engine.step() && steps < 10'000; ++steps) clock.advance_ns(1'000'000);
    return steps;
  }
};

chat::SamplingParameters seeded(uint64_t seed, int64_t max_tokens = 200) {
  return {.seed = seed, .max_tokens = max_tokens};
}

TEST(Guide, AnAnswerFollowsItsGrammarAndEndsWithIt) {
  Rig rig;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const auto sequence = rig.submit(record_grammar(), seeded(seed));
    rig.run();
    EXPECT_EQ(sequence->stream.reason(), FinishReason::stop);
    EXPECT_TRUE(follows(*record_grammar(), *sequence)) << text_of(*sequence);
    EXPECT_EQ(sequence->tokens.back(), kEnd);
  }
  const auto free = rig.submit(nullptr, seeded(1, 30));
  rig.run();
  EXPECT_FALSE(follows(*record_grammar(), *free)) << "the negative control";
}

TEST(Guide, ForcedTokensTakeNoStepsOfTheirOwn) {
  Rig rig;
  const auto sequence = rig.submit(record_grammar(), seeded(7));
  const int64_t steps = rig.run();
  EXPECT_LT(steps, sequence->generated() / 2) << text_of(*sequence);
  EXPECT_EQ(sequence->stream.size(), sequence->generated());
  EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
}

// With log probabilities each token has a step of its own, by its mask; the tokens are the same.
TEST(Guide, ForcedTokensAreThoseThatMasksGive) {
  Rig rig;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    chat::SamplingParameters slow = seeded(seed);
    slow.logprobs = 2;
    slow.presence_penalty = 0.5;
    chat::SamplingParameters quick = slow;
    quick.logprobs = {};
    const auto at_once = rig.submit(record_grammar(), quick);
    const int64_t quick_steps = rig.run();
    const auto one_by_one = rig.submit(record_grammar(), slow);
    EXPECT_GT(rig.run(), quick_steps);
    EXPECT_EQ(testing::generated_tokens(at_once->stream), testing::generated_tokens(one_by_one->stream));
    EXPECT_EQ(at_once->stream.reason(), one_by_one->stream.reason());
    std::vector<float> logits(kVocabulary);
    const std::span<const int32_t> tokens = one_by_one->tokens;
    for (int64_t i = 0; i < one_by_one->stream.size(); ++i) {
      rig.model.logits_after(tokens.first(static_cast<size_t>(one_by_one->prompt_tokens + i)), logits);
      EXPECT_EQ(one_by_one->stream.top(i)[0].token, std::ranges::max_element(logits) - logits.begin())
          << "alternatives are the model's own";
    }
  }
}

TEST(Guide, NeighboursAndPreemptionChangeNothing) {
  std::vector<std::vector<int32_t>> alone;
  for (int i = 0; i < 12; ++i) {
    Rig rig;
    const auto sequence = rig.submit(i % 3 == 2 ? nullptr : record_grammar(), seeded(i, 80), i);
    rig.run();
    alone.push_back(testing::generated_tokens(sequence->stream));
  }
  Rig rig({.max_sequences = 6, .batch_tokens = 48, .context_tokens = 160, .kv_blocks = 9});
  std::vector<SequencePtr> sequences;
  for (int i = 0; i < 12; ++i)
    sequences.push_back(rig.submit(i % 3 == 2 ? nullptr : record_grammar(), seeded(i, 80), i));
  rig.run();
  int64_t preemptions = 0;
  for (size_t i = 0; i < 12; ++i) {
    EXPECT_EQ(testing::generated_tokens(sequences[i]->stream), alone[i]) << i;
    preemptions += sequences[i]->preemptions;
  }
  EXPECT_GT(preemptions, 0);
}

TEST(Guide, LengthEndsAnAnswerAmongForcedTokens) {
  Rig rig;
  for (const int64_t length : {1, 2, 5, 11, 20}) {
    const auto sequence = rig.submit(record_grammar(), seeded(3, length));
    rig.run();
    EXPECT_EQ(sequence->stream.size(), length);
    EXPECT_EQ(sequence->stream.reason(), FinishReason::length);
    const auto whole = rig.submit(record_grammar(), seeded(3));
    rig.run();
    EXPECT_TRUE(text_of(*whole).starts_with(text_of(*sequence)));
  }
}

TEST(Guide, TooShortAnswersDoNotEndUnlessTheGrammarDoes) {
  Rig rig;
  const auto words = compile(GrammarKind::regex, "[a-c]*");
  chat::SamplingParameters sampling = seeded(5, 100);
  sampling.min_tokens = 60;
  const auto longer = rig.submit(words, sampling);
  const auto whole = rig.submit(compile(GrammarKind::regex, "abc"), sampling);
  rig.run();
  EXPECT_GE(longer->generated(), 60);
  EXPECT_EQ(text_of(*whole), "abc");
  EXPECT_EQ(whole->stream.reason(), FinishReason::stop);
}

TEST(Guide, IgnoredEndTokensComeOnlyWhereNothingElseCan) {
  Rig rig;
  chat::SamplingParameters sampling = seeded(5, 100);
  sampling.ignore_eos = true;
  const auto longer = rig.submit(compile(GrammarKind::regex, "[a-c]*"), sampling);
  const auto bounded = rig.submit(compile(GrammarKind::regex, "[a-c]{0,20}"), sampling);
  rig.run();
  EXPECT_THAT(longer->tokens, ::testing::Not(Contains(kEnd)));
  EXPECT_EQ(longer->stream.reason(), FinishReason::length);
  EXPECT_EQ(text_of(*bounded).size(), 20U);
  EXPECT_EQ(bounded->stream.reason(), FinishReason::stop);
}

TEST(Guide, ADeadEndIsTheErrorOfItsSequenceAlone) {
  Rig rig;
  // No token has the letter that must follow.
  const auto stuck = rig.submit(compile(GrammarKind::regex, "[ab]+Z"), seeded(1, 2000 / 4));
  const auto other = rig.submit(record_grammar(), seeded(2));
  const auto free = rig.submit(nullptr, seeded(3, 50));
  rig.run();
  EXPECT_TRUE(follows(*record_grammar(), *other));
  EXPECT_NE(free->stream.reason(), FinishReason::error);
  EXPECT_EQ(stuck->stream.reason(), FinishReason::length) << "it never gets there";
  const auto forced = rig.submit(compile(GrammarKind::regex, "[ab]Z"), seeded(1));
  rig.run();
  EXPECT_EQ(forced->stream.reason(), FinishReason::error);
  EXPECT_EQ(forced->stream.error()->reason(), "grammar_dead_end");
  EXPECT_THAT(forced->stream.error()->message(), HasSubstr("grammar"));
  EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
}

TEST(Guide, StopTokensOfTheRequestStillEndIt) {
  Rig rig;
  chat::SamplingParameters sampling = seeded(4);
  sampling.stop_token_ids = {tokenizer().find("[").value()};
  const auto sequence = rig.submit(record_grammar(), sampling);
  rig.run();
  EXPECT_EQ(sequence->stream.reason(), FinishReason::stop);
  EXPECT_TRUE(text_of(*sequence).ends_with("\"abcdefgh\":[")) << text_of(*sequence);
}

TEST(Guide, SequencesMayEndWhileTheirMasksAreMade) {
  Rig rig({.max_sequences = 8});
  for (int round = 0; round < 50; ++round) {
    std::vector<SequencePtr> sequences;
    for (int i = 0; i < 8; ++i)
      sequences.push_back(rig.submit(record_grammar(), seeded(static_cast<uint64_t>(round * 8 + i)), i, 4));
    for (int step = 0; step < round % 7; ++step) rig.engine.step();
    for (const SequencePtr& sequence : sequences) rig.engine.end(*sequence, EndRequest::cancelled);
    rig.run();
    EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
  }
}

}  // namespace
}  // namespace neutrino::engine
