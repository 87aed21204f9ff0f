// Blocks of sequences in a group that keeps everything and in one with a window: what is held, given back, found again.
#include "engine/sequence_blocks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using compute::kBlockPositions, compute::kNoBlock;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;
using Kind = testing::FakeModel::Kind;
using Tokens = std::vector<int32_t>;

constexpr int64_t kBlocks = 8;  // full ones of every sequence here

Tokens prompt(int64_t size, int32_t first = 3) {
  Tokens tokens;
  for (int64_t i = 0; i < size; ++i) tokens.push_back(static_cast<int32_t>((first + i * 7) % 60));
  return tokens;
}

// Pools of kBlocks + 1 blocks: one sequence's, and the one that its next token needs.
struct Pools {
  explicit Pools(int64_t window, Kind kind = Kind::windowed)
      : model(64, 1024, kind, window),
        plan(model, compute::KvType::bf16, compute::Arithmetic::integer, {1024, 8, 512}),
        blocks(plan, kBlocks + 1, PrefixCache::on) {}

  SequencePtr sequence(int32_t first = 3) const {
    return std::make_shared<Sequence>(
        chat::GenerationRequest{.id = "test", .prompt = prompt(kBlocks * kBlockPositions + 1, first)},
        std::span<const int32_t>(), prefix_root("", "model", ""), blocks.groups());
  }
  // Computes `tokens` more of it in one step.
  void compute(Sequence& sequence, int64_t tokens) {
    const int64_t before = sequence.computed;
    while (const auto group = blocks.group_short_of(sequence, before + tokens))
      ASSERT_TRUE(blocks.extend(sequence, *group));
    sequence.computed += tokens;
    blocks.mark_computed(sequence, before);
  }
  // Where the same prompt is resumed; it holds nothing afterwards.
  int64_t resumes_at(int64_t useful = kBlocks * kBlockPositions) {
    const SequencePtr again = sequence();
    blocks.take_prefix(*again, useful);
    const int64_t computed = again->computed;
    blocks.give_back(*again);
    return computed;
  }

  testing::FakeModel model;
  KvPlan plan;
  SequenceBlocks blocks;
};

TEST(SequenceBlocks, AWindowGivesBackWhatNothingSeesAnyMore) {
  Pools pools(40);
  const SequencePtr sequence = pools.sequence();
  const BlockTable &all = sequence->tables[0], &window = sequence->tables[1];
  pools.compute(*sequence, 71);  // the next token, at 71, sees 32 ... 71
  EXPECT_EQ(all.behind, 0);
  EXPECT_EQ(window.behind, 1);
  EXPECT_EQ(window.blocks[0], kNoBlock);
  EXPECT_EQ(pools.blocks.pool(1).counts().cached, 1);
  pools.compute(*sequence, 31);  // 102 sees 63 ... 102
  EXPECT_EQ(window.behind, 1);
  pools.compute(*sequence, 1);
  EXPECT_EQ(window.behind, 2);
  EXPECT_EQ(all.held(), 4);
  EXPECT_EQ(window.held(), 2);
  pools.blocks.give_back(*sequence);
  for (size_t group = 0; group < 2; ++group) {
    EXPECT_EQ(pools.blocks.pool(group).counts().referenced, 0);
    EXPECT_EQ(pools.blocks.pool(group).counts().cached, 3) << "the fourth is not full";
    pools.blocks.pool(group).check_invariants();
  }
}

// A sequence of 8 blocks has been there; then `taken` blocks of one group were taken for something else, least recently used
// first: those that the window left, in order, then what was given back at the end, the last first.
struct Resume {
  int64_t window;
  size_t group;
  int64_t taken, resumes_at;
};
constexpr Resume kResumes[] = {
    // The next token sees block 7 alone, of 6 the last position, or of 6 the first one.
    {33, 1, 0, 256},
    {33, 1, 7, 256},
    {33, 1, 8, 0},
    {34, 1, 0, 256},
    {34, 1, 6, 256},
    {34, 1, 7, 0},  // 6 is left, but at 224 the next token sees 5
    {65, 1, 6, 256},
    {65, 1, 7, 0},
    {66, 1, 5, 256},
    {66, 1, 6, 0},
    {300, 1, 0, 256},
    {300, 1, 1, 224},
    {300, 1, 8, 0},  // the window reaches over the whole prompt
    // Of the group that keeps everything the end goes first.
    {33, 0, 1, 224},
    {33, 0, 7, 32},
    {33, 0, 8, 0},
    {34, 0, 1, 224},
    {66, 0, 2, 192},
};

TEST(SequenceBlocks, APrefixIsResumedWhereBothGroupsHaveWhatIsSeen) {
  for (const auto& [window, group, taken, resumes_at] : kResumes) {
    SCOPED_TRACE(fmt::format("window {}, {} blocks of group {} taken", window, taken, group));
    Pools pools(window);
    const SequencePtr first = pools.sequence(), other = pools.sequence(5);
    pools.compute(*first, kBlocks * kBlockPositions);
    pools.blocks.give_back(*first);
    ASSERT_TRUE(pools.blocks.extend(*other, group));  // the ninth, which is free
    for (int64_t i = 0; i < taken; ++i) ASSERT_TRUE(pools.blocks.extend(*other, group));
    EXPECT_EQ(pools.resumes_at(), resumes_at);
  }
}

TEST(SequenceBlocks, AResumedSequenceHoldsWhatTheNextTokenSees) {
  Pools pools(34);
  const SequencePtr first = pools.sequence(), second = pools.sequence();
  pools.compute(*first, kBlocks * kBlockPositions);
  pools.blocks.take_prefix(*second, kBlocks * kBlockPositions);
  EXPECT_EQ(second->computed, 256);
  EXPECT_EQ(second->branch, 256);
  EXPECT_EQ(second->tables[0].held(), 8);
  EXPECT_EQ(second->tables[1].behind, 6);
  EXPECT_EQ(second->tables[1].held(), 2);
  EXPECT_EQ(second->tables[1].blocks[7], first->tables[1].blocks[7]) << "shared";
  pools.compute(*second, 1);
  EXPECT_EQ(second->tables[1].behind, 7);
  pools.blocks.give_back(*first);
  pools.blocks.give_back(*second);
  EXPECT_EQ(pools.resumes_at(255), 224) << "a token must be left for the logits";
}

// Without layers that keep everything the beginning of a prefix need not be there at all.
TEST(SequenceBlocks, WindowsAloneResumeWithoutABeginning) {
  Pools pools(34, Kind::sliding);
  const SequencePtr first = pools.sequence(), other = pools.sequence(5);
  pools.compute(*first, kBlocks * kBlockPositions);
  pools.blocks.give_back(*first);
  for (int i = 0; i < 7; ++i) ASSERT_TRUE(pools.blocks.extend(*other, 0));
  EXPECT_EQ(pools.resumes_at(), 256);
  ASSERT_TRUE(pools.blocks.extend(*other, 0));
  EXPECT_EQ(pools.resumes_at(), 0);
}

TEST(SequenceBlocks, ANewcomerNeedsRoomInEveryGroup) {
  for (const size_t group : {0U, 1U}) {
    Pools pools(40);
    const SequencePtr newcomer = pools.sequence(), other = pools.sequence(5);
    EXPECT_TRUE(pools.blocks.have_room(*newcomer, {}));  // its 257 tokens take all nine blocks
    ASSERT_TRUE(pools.blocks.extend(*other, group));
    EXPECT_FALSE(pools.blocks.have_room(*newcomer, {}));
  }
  Pools pools(40);
  const SequencePtr decoding = pools.sequence(), newcomer = pools.sequence(5);
  pools.compute(*decoding, 256);
  pools.blocks.give_back(*decoding);
  newcomer->tokens.resize(33);
  EXPECT_TRUE(pools.blocks.have_room(*newcomer, {})) << "cached blocks are room";
}

// ---- through the engine, whose model throws where a block is not there or holds something else

struct Rig {
  explicit Rig(EngineOptions options, Kind kind = Kind::windowed, int64_t window = 64)
      : model(64, 4096, kind, window), engine(model, backend, std::move(options), metrics, clock) {}
  testing::FakeModel model;
  testing::FakeBackend backend;
  Metrics metrics;
  SimulatedClock clock;
  Engine engine;

  // Runs a request to its end; `look` sees each batch. Returns how many tokens of its prompt came from the cache.
  int64_t run(const Tokens& tokens, int64_t max_tokens,
              std::function<void(const compute::Batch&)> look = nullptr) {
    model.before_forward = std::move(look);
    const SequencePtr sequence = engine.submit(
        {.id = "test", .prompt = tokens, .sampling = {.temperature = 0, .max_tokens = max_tokens}});
    while (engine.step())
      for (size_t group = 0; group < engine.kv_plan().groups().size(); ++group)
        engine.blocks(group).check_invariants();
    EXPECT_FALSE(engine.status().dead) << engine.status().death_message;
    EXPECT_THAT(testing::generated_tokens(sequence->stream),
                ElementsAreArray(model.continuation(tokens, max_tokens)));
    return sequence->cached_tokens;
  }
};

TEST(Windows, ALongGenerationHoldsNoMoreThanItsWindow) {
  for (const Kind kind : {Kind::windowed, Kind::sliding}) {
    Rig rig({.max_sequences = 2, .batch_tokens = 50, .kv_blocks = 128}, kind);
    const size_t group = kind == Kind::windowed ? 1 : 0;
    int64_t most = 0;
    rig.run(prompt(500), 2000, [&](const compute::Batch& batch) {
      const int64_t held = rig.engine.blocks(group).counts().referenced;
      EXPECT_LE(held, window_blocks(64, batch.sequences[0].rows));
      most = std::max(most, held);
    });
    EXPECT_EQ(most, window_blocks(64, 50));
    EXPECT_EQ(rig.engine.blocks(group).counts().referenced, 0);
    EXPECT_EQ(rig.engine.scheduler().preemptions(), 0);
  }
}

TEST(Windows, AConversationGoesOnWhereItsAnswerEnded) {
  Rig rig({.max_sequences = 2, .batch_tokens = 64});
  EXPECT_EQ(rig.run(prompt(500), 90), 0);
  Tokens turn = prompt(500);
  for (const int32_t token : rig.model.continuation(prompt(500), 90)) turn.push_back(token);
  turn.push_back(1);
  EXPECT_EQ(rig.run(turn, 4), 576);
  EXPECT_EQ(rig.run(prompt(500), 4), 480)
      << "what the window left is cached as long as nobody needs the blocks";
}

// A context of 4096 in 5 blocks: a window of 64 and steps of 48 rows need no more.
TEST(Windows, AloneTheyNeedNoMemoryForTheContext) {
  Rig rig({.max_sequences = 4, .batch_tokens = 48, .kv_blocks = window_blocks(64, 48)}, Kind::sliding);
  rig.run(prompt(1000), 3000);
  EXPECT_EQ(rig.engine.scheduler().preemptions(), 0);
  Rig little({.max_sequences = 4, .batch_tokens = 48, .kv_blocks = window_blocks(64, 48) - 1}, Kind::sliding);
  EXPECT_THROW(little.run(prompt(100), 100), Error);
}

TEST(Windows, TheirBlocksHaveASeriesOfTheirOwn) {
  Rig rig({.max_sequences = 2, .kv_blocks = 64});
  rig.run(prompt(100), 1);
  const std::string text = rig.metrics.text();
  EXPECT_THAT(text,
              HasSubstr("neutrino_kv_window_blocks{engine=\"0\",model_name=\"model\",state=\"cached\"} 3"));
  EXPECT_THAT(text, HasSubstr("neutrino_kv_blocks{engine=\"0\",model_name=\"model\",state=\"cached\"} 3"));
  EXPECT_THAT(Rig({}, Kind::sliding).metrics.text(), Not(HasSubstr("neutrino_kv_window_blocks")));
}

}  // namespace
}  // namespace neutrino::engine
