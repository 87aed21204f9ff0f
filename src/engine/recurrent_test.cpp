// Where sequences of a recurrent model resume, and what they leave behind. The model is a FakeModel, which kills the engine
// where a state sums up something else than its sequence's tokens, so every expectation here is one about correctness, too.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using ::testing::ElementsAreArray;
using Tokens = std::vector<int32_t>;

Tokens prompt(int64_t size, int32_t first = 3) {
  Tokens tokens;
  for (int64_t i = 0; i < size; ++i) tokens.push_back(static_cast<int32_t>((first + i * 7) % 60));
  return tokens;
}

Tokens joined(Tokens tokens, const Tokens& more) {
  tokens.insert(tokens.end(), more.begin(), more.end());
  return tokens;
}

struct Rig {
  explicit Rig(EngineOptions options = {}) : engine(model, backend, std::move(options), metrics, clock) {}
  testing::FakeModel model{64, 8192, testing::FakeModel::Kind::recurrent};
  testing::FakeBackend backend;
  Metrics metrics;
  SimulatedClock clock;
  Engine engine;

  // Runs a request to its end and returns how many tokens of its prompt came from the cache.
  int64_t cached_tokens(const Tokens& tokens, int64_t max_tokens = 4) {
    const SequencePtr sequence = engine.submit(
        {.id = "test", .prompt = tokens, .sampling = {.temperature = 0, .max_tokens = max_tokens}});
    while (engine.step())
      engine.states().check_invariants([&](int32_t block) { return engine.blocks().named(block); });
    EXPECT_FALSE(engine.status().dead) << engine.status().death_message;
    EXPECT_THAT(testing::generated_tokens(sequence->stream),
                ElementsAreArray(model.continuation(tokens, max_tokens)));
    return sequence->cached_tokens;
  }
  int64_t snapshots() const { return engine.states().counts().snapshots; }
};

TEST(Recurrent, TheSamePromptResumesAtItsLastFullBlock) {
  Rig rig;
  EXPECT_EQ(rig.cached_tokens(prompt(100)), 0);
  EXPECT_EQ(rig.cached_tokens(prompt(100)), 96);
  EXPECT_EQ(rig.cached_tokens(prompt(64, 5)), 0);
  EXPECT_EQ(rig.cached_tokens(prompt(64, 5)), 32) << "a token must be left for the logits";
  EXPECT_EQ(rig.cached_tokens(prompt(31, 6)), 0);
  EXPECT_EQ(rig.cached_tokens(prompt(31, 6)), 0) << "no full block";
}

TEST(Recurrent, AConversationGoesOnWhereItsAnswerEnded) {
  Rig rig;
  rig.cached_tokens(prompt(50), 90);  // 140 tokens, of which the last is known and not computed
  const Tokens turn = joined(joined(prompt(50), rig.model.continuation(prompt(50), 90)), prompt(20, 11));
  EXPECT_EQ(rig.cached_tokens(turn), 128);
}

// 70 tokens in common: two blocks, whose state nobody kept until a second prompt parted from the first there.
TEST(Recurrent, TheThirdOfABranchFindsIt) {
  Rig rig;
  const Tokens common = prompt(70);
  EXPECT_EQ(rig.cached_tokens(joined(common, prompt(60, 20))), 0);
  EXPECT_EQ(rig.cached_tokens(joined(common, prompt(60, 30))), 0);
  EXPECT_EQ(rig.cached_tokens(joined(common, prompt(60, 40))), 64);
}

TEST(Recurrent, LongPromptsLeaveSnapshotsOnTheirWay) {
  Rig rig({.max_sequences = 8});
  rig.cached_tokens(prompt(1200));
  EXPECT_EQ(rig.cached_tokens(joined(Tokens(prompt(1100)), {1, 2, 3})), 1024) << "every 16 blocks";
  Rig longer({.max_sequences = 16});
  longer.cached_tokens(prompt(8000), 1);
  EXPECT_LE(longer.snapshots(), kPromptSnapshots + 1) << "a long prompt does not drive out all others";
}

TEST(Recurrent, GeneratingKeepsOneSnapshot) {
  Rig rig;
  rig.cached_tokens(prompt(10), 300);
  EXPECT_EQ(rig.snapshots(), 1);
}

TEST(Recurrent, WithoutPrefixCacheOrSnapshotsNothingIsResumed) {
  for (const bool on : {false, true}) {
    Rig rig({.prefix_cache = on ? PrefixCache::on : PrefixCache::off, .state_snapshots = on ? 0 : 8});
    EXPECT_EQ(rig.engine.states().slots(), rig.engine.options().max_sequences);
    rig.cached_tokens(prompt(100));
    EXPECT_EQ(rig.cached_tokens(prompt(100)), 0);
    EXPECT_EQ(rig.snapshots(), 0);
  }
}

TEST(Recurrent, OneSnapshotSlotServesTheLatest) {
  Rig rig({.state_snapshots = 1});
  rig.cached_tokens(prompt(100));
  rig.cached_tokens(prompt(100, 9));
  EXPECT_EQ(rig.cached_tokens(prompt(100, 9)), 96);
  EXPECT_EQ(rig.cached_tokens(prompt(100)), 0);
}

TEST(Recurrent, ASnapshotGoesWithItsBlock) {
  Rig rig({.kv_blocks = 4});
  rig.cached_tokens(prompt(100));
  EXPECT_EQ(rig.snapshots(), 1);
  rig.cached_tokens(prompt(120, 9), 1);  // takes all four blocks
  EXPECT_EQ(rig.cached_tokens(prompt(100)), 0);
}

// A model without states pays nothing: no slots, and its prompts are not cut.
TEST(Recurrent, AttentionAloneIsAsItWas) {
  const testing::FakeModel model(64, 1024);
  testing::FakeBackend backend;
  Metrics metrics;
  SimulatedClock clock;
  Engine engine(model, backend, {}, metrics, clock);
  EXPECT_EQ(engine.states().slots(), 0);
  const SequencePtr sequence =
      engine.submit({.id = "test", .prompt = prompt(100), .sampling = {.temperature = 0, .max_tokens = 1}});
  while (engine.step()) {
  }
  EXPECT_EQ(model.steps, 1);
  EXPECT_TRUE(sequence->stream.finished());
}

}  // namespace
}  // namespace neutrino::engine
