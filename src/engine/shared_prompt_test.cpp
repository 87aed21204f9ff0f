// Several generations from one prompt (n choices, or requests that begin alike) compute it once.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/engine.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using testing::FakeBackend, testing::FakeModel;

constexpr int64_t kChoices = 8, kPrompt = 200, kTokens = 40;
constexpr int64_t kInCommon = (kPrompt - 1) / compute::kBlockPositions * compute::kBlockPositions;

std::vector<int32_t> prompt_of(int64_t size, int32_t first) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < size; ++i) prompt.push_back(static_cast<int32_t>((first + i * i) % 50));
  return prompt;
}

struct Work {
  int64_t rows = 0, blocks_most = 0, cached_tokens = 0;
  std::vector<int32_t> first;  // what the first choice said
};

Work generate(FakeModel::Kind kind, EngineOptions options) {
  FakeModel model(50, 512, kind, 40);
  FakeBackend backend;
  Metrics metrics;
  SystemClock clock;
  Engine engine(model, backend, std::move(options), metrics, clock);
  Work work;
  model.before_forward = [&](const compute::Batch&) {
    work.blocks_most = std::max(work.blocks_most, engine.blocks().counts().referenced);
  };
  std::vector<SequencePtr> choices;
  for (int64_t i = 0; i < kChoices; ++i)
    choices.push_back(
        engine.submit({.id = std::to_string(i),
                       .prompt = prompt_of(kPrompt, 3),
                       .sampling = {.temperature = 0, .ignore_eos = true, .max_tokens = kTokens}}));
  while (engine.step()) {
  }
  for (const SequencePtr& choice : choices) {
    EXPECT_EQ(choice->stream.size(), kTokens);
    EXPECT_EQ(testing::generated_tokens(choice->stream), testing::generated_tokens(choices[0]->stream));
    work.cached_tokens += choice->cached_tokens;
  }
  work.first = testing::generated_tokens(choices[0]->stream);
  work.rows = model.rows;
  return work;
}

constexpr int64_t kDecodeRows = kChoices * (kTokens - 1);

TEST(SharedPrompt, ChoicesComputeThePromptOnceAndHoldItOnce) {
  for (const auto kind : {FakeModel::Kind::attention, FakeModel::Kind::recurrent, FakeModel::Kind::windowed})
    for (const int64_t batch_tokens : {512, 64}) {
      SCOPED_TRACE(fmt::format("kind {}, {} tokens a step", static_cast<int>(kind), batch_tokens));
      const Work work = generate(kind, {.max_sequences = kChoices, .batch_tokens = batch_tokens});
      // Keys and values of the last block are copied, where it was computed with those before it: nobody waits for it alone. A
      // state cannot be cut back to the last token but one.
      const bool copied = kind != FakeModel::Kind::recurrent && batch_tokens > kPrompt;
      const int64_t shared = copied ? kPrompt - 1 : kInCommon;
      EXPECT_EQ(work.rows, kPrompt + (kChoices - 1) * (kPrompt - shared) + kDecodeRows);
      EXPECT_EQ(work.cached_tokens, (kChoices - 1) * shared);
      const int64_t own_blocks = (kPrompt + kTokens - kInCommon + 31) / 32;  // of the suffix
      EXPECT_LE(work.blocks_most, kInCommon / 32 + kChoices * own_blocks);
    }
}

// The negative control: without names of blocks each computes its own.
TEST(SharedPrompt, IsComputedByEachWithoutAPrefixCache) {
  const EngineOptions with{.max_sequences = kChoices};
  EngineOptions without = with;
  without.prefix_cache = PrefixCache::off;
  const Work each = generate(FakeModel::Kind::attention, without);
  EXPECT_EQ(each.rows, kChoices * kPrompt + kDecodeRows);
  EXPECT_EQ(each.first, generate(FakeModel::Kind::attention, with).first);
}

TEST(SharedPrompt, WhoWaitsForAPrefixHoldsUpNobodyElse) {
  FakeModel model(50, 512);
  FakeBackend backend;
  Metrics metrics;
  SystemClock clock;
  Engine engine(model, backend, {.max_sequences = 4, .batch_tokens = 64}, metrics, clock);
  const auto submit = [&](int32_t first) {
    return engine.submit({.id = "a", .prompt = prompt_of(kPrompt, first), .sampling = {.max_tokens = 4}});
  };
  const SequencePtr one = submit(3), same = submit(3);
  engine.step();
  const SequencePtr other = submit(4);
  engine.step();
  EXPECT_EQ(engine.scheduler().waiting().size(), 2U);  // the budget went to the first
  while (one->computed < kInCommon) engine.step();
  engine.step();
  EXPECT_FALSE(same->queued);
  EXPECT_EQ(same->cached_tokens, kInCommon);
  while (engine.step()) {
  }
  EXPECT_EQ(other->cached_tokens, 0);
}

// Whom the others wait for may be cancelled, fail or lose its blocks: they go on without it.
TEST(SharedPrompt, ACancelledFirstIsFollowedByTheNext) {
  FakeModel model(50, 512);
  FakeBackend backend;
  Metrics metrics;
  SystemClock clock;
  Engine engine(model, backend, {.max_sequences = 4, .batch_tokens = 64}, metrics, clock);
  std::vector<SequencePtr> choices;
  for (int i = 0; i < 3; ++i)
    choices.push_back(engine.submit(
        {.id = "a", .prompt = prompt_of(kPrompt, 3), .sampling = {.ignore_eos = true, .max_tokens = 4}}));
  engine.step();
  EXPECT_EQ(engine.scheduler().running().size(), 1U);
  engine.end(*choices[0], EndRequest::cancelled);
  while (engine.step()) {
  }
  EXPECT_EQ(choices[1]->stream.size(), 4);
  EXPECT_EQ(choices[2]->stream.size(), 4);
  EXPECT_EQ(choices[1]->cached_tokens, 64);  // what the first one had computed
  EXPECT_EQ(choices[2]->cached_tokens, kInCommon);
}

// The negative control: a model that does not find the copy of the prompt's last block says so.
TEST(SharedPrompt, ABlockThatIsNotCopiedIsNoticed) {
  FakeModel model(50, 512);
  FakeBackend backend(2, 1);  // forgets every copy
  Metrics metrics;
  SystemClock clock;
  Engine engine(model, backend, {.max_sequences = 4}, metrics, clock);
  for (int i = 0; i < 2; ++i)
    engine.submit(
        {.id = "a", .prompt = prompt_of(kPrompt, 3), .sampling = {.ignore_eos = true, .max_tokens = 4}});
  while (engine.step()) {
  }
  EXPECT_EQ(engine.status().death_message, "a KV block holds something else than the sequence's prefix");
}

// Prompts of every length around a block's end, and those that part in the last block.
TEST(SharedPrompt, TailsOfEveryLengthAreTakenOnlyWhereTheyAreTheSame) {
  for (int64_t size = 1; size <= 70; ++size)
    for (const int64_t parts : {int64_t{0}, size - 1, size / 2}) {
      FakeModel model(50, 512, size % 2 ? FakeModel::Kind::attention : FakeModel::Kind::windowed, 40);
      FakeBackend backend;
      Metrics metrics;
      SystemClock clock;
      Engine engine(model, backend, {.max_sequences = 3}, metrics, clock);
      std::vector<int32_t> prompt = prompt_of(size, 3), other = prompt;
      if (parts > 0) other[static_cast<size_t>(parts)] = 49 - other[static_cast<size_t>(parts)];
      const auto submit = [&](const std::vector<int32_t>& tokens) {
        return engine.submit({.id = "a",
                              .prompt = tokens,
                              .sampling = {.temperature = 0, .ignore_eos = true, .max_tokens = 9}});
      };
      const SequencePtr sequences[] = {submit(prompt), submit(other), submit(prompt)};
      while (engine.step()) {
      }
      EXPECT_EQ(testing::generated_tokens(sequences[1]->stream), model.continuation(other, 9)) << size;
      EXPECT_EQ(testing::generated_tokens(sequences[2]->stream), model.continuation(prompt, 9)) << size;
      EXPECT_EQ(sequences[2]->cached_tokens, size > compute::kBlockPositions ? size - 1 : 0) << size;
    }
}

}  // namespace
}  // namespace neutrino::engine
