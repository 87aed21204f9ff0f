#include "engine/kv_plan.h"

#include <gtest/gtest.h>

#include "engine/engine.h"
#include "engine/testing/fake_model.h"
#include "engine/testing/loaded_model.h"
#include "models/testing/golden_case.h"

namespace neutrino::engine {
namespace {

using compute::Arithmetic;
using compute::kBlockPositions;
using compute::KvType;
using Kind = testing::FakeModel::Kind;

// A block of a FakeModel's layer in integer arithmetic: 32 positions of a key and a value, padded to 32 bfloat16 each.
constexpr int64_t kLayerBytes = 32 * 2 * 32 * 2;

KvPlan plan_of(Kind kind, int64_t window, const KvUse& use) {
  return KvPlan(testing::FakeModel(64, use.context_tokens, kind, window), KvType::bf16, Arithmetic::integer,
                use);
}

TEST(KvPlan, ANumberOfRowsTouchesSoManyBlocks) {
  // window, rows, blocks: the window - 1 positions before the rows and they themselves, at the worst offset.
  const int64_t cases[][3] = {{1, 1, 1},    {2, 1, 2},    {32, 1, 2},   {33, 1, 2},     {34, 1, 3},
                              {512, 1, 17}, {513, 1, 17}, {514, 1, 18}, {512, 512, 33}, {1, 32, 2}};
  for (const auto& [window, rows, blocks] : cases) {
    EXPECT_EQ(window_blocks(window, rows), blocks) << window << " " << rows;
    int64_t most = 0;  // the definition: from the first block that the first row sees to the last row's
    for (int64_t first = 5000; first < 5000 + kBlockPositions; ++first)
      most = std::max(most, (first + rows - 1) / kBlockPositions - first_block_seen(window, first) + 1);
    EXPECT_EQ(most, blocks) << window << " " << rows;
  }
}

TEST(KvPlan, TheFirstBlockSeen) {
  EXPECT_EQ(first_block_seen(0, 1000), 0);
  EXPECT_EQ(first_block_seen(40, 39), 0);
  EXPECT_EQ(first_block_seen(40, 70), 0);  // sees 31 ... 70
  EXPECT_EQ(first_block_seen(40, 71), 1);  // sees 32 ... 71
  EXPECT_EQ(first_block_seen(1, 32), 1);
}

TEST(KvPlan, GroupsFollowTheLayers) {
  const KvUse use{.context_tokens = 1024, .max_sequences = 4, .batch_tokens = 64};
  const auto windows = [&](Kind kind, int64_t window) {
    std::vector<int64_t> of_groups;
    const KvPlan plan = plan_of(kind, window, use);
    for (const KvGroup& group : plan.groups()) of_groups.push_back(group.window);
    return of_groups;
  };
  EXPECT_EQ(windows(Kind::attention, 0), (std::vector<int64_t>{0}));
  EXPECT_EQ(windows(Kind::recurrent, 0), (std::vector<int64_t>{0}));
  EXPECT_EQ(windows(Kind::windowed, 40), (std::vector<int64_t>{0, 40}));
  EXPECT_EQ(windows(Kind::sliding, 40), (std::vector<int64_t>{40}));
  EXPECT_EQ(windows(Kind::windowed, 1024), (std::vector<int64_t>{0})) << "it reaches over the whole context";
  EXPECT_EQ(plan_of(Kind::windowed, 1024, use).bytes(1), 2 * kLayerBytes);
}

// At the planned context and batch both groups are used up; with less memory the windowed one has as many blocks as the other.
TEST(KvPlan, BothGroupsRunOutTogether) {
  const KvUse use{.context_tokens = 1024, .max_sequences = 4, .batch_tokens = 64};
  const KvPlan plan = plan_of(Kind::windowed, 40, use);
  const int64_t full = 4 * 1024 / kBlockPositions, windows = 4 * (window_blocks(40, 1) + 1) + 2;
  EXPECT_EQ(plan.blocks(0, full), full);
  EXPECT_EQ(plan.blocks(1, full), windows);
  EXPECT_EQ(plan.bytes(full), (full + windows) * kLayerBytes);
  EXPECT_EQ(plan.blocks(1, 7), 7);
  EXPECT_EQ(plan.bytes(7), 14 * kLayerBytes);
  EXPECT_EQ(plan.tokens_max(7), 7 * kBlockPositions);
  const compute::KvCacheShape shape = plan.shape(testing::FakeModel(64, 1024, Kind::windowed, 40), full, 0);
  EXPECT_EQ(shape.blocks, full);
  EXPECT_EQ(shape.window_blocks, windows);
}

TEST(KvPlan, BytesHoldWhatTheyWereCountedFor) {
  const KvUse use{.context_tokens = 1024, .max_sequences = 4, .batch_tokens = 64};
  for (const Kind kind : {Kind::attention, Kind::windowed}) {
    const KvPlan plan = plan_of(kind, 40, use);
    for (const int64_t positions : {0, 1, 17, 18, 19, 128, 1000}) {
      EXPECT_EQ(plan.positions_in(plan.bytes(positions)), positions);
      EXPECT_EQ(plan.positions_in(plan.bytes(positions + 1) - 1), positions);
    }
  }
}

// Windows alone: a sequence of any length has room once its window has, and no memory makes more blocks than are of use.
TEST(KvPlan, WindowsAlone) {
  const KvUse use{.context_tokens = 1024, .max_sequences = 4, .batch_tokens = 64};
  const KvPlan plan = plan_of(Kind::sliding, 40, use);
  const int64_t one = window_blocks(40, 64), all = 4 * (window_blocks(40, 1) + 1) + 2;
  EXPECT_EQ(plan.tokens_max(one - 1), (one - 1) * kBlockPositions);
  EXPECT_GT(plan.tokens_max(one), use.context_tokens);
  EXPECT_EQ(plan.bytes(1 << 20), all * kLayerBytes);
  EXPECT_EQ(plan.positions_in(all * kLayerBytes - 1), all - 1);
  EXPECT_EQ(plan.positions_in(1 << 30), 4 * 1024 / kBlockPositions);
}

// The share of layers with a window that a checkpoint says, and the cache that an engine makes of it.
TEST(KvPlan, OfRealArchitectures) {
  struct Case {
    const char* name;
    int64_t full, windowed;  // layers
  };
  for (const Case& expected : {Case{"gemma3", 1, 5}, Case{"gpt-oss", 1, 2}, Case{"mistral", 0, 2}}) {
    SCOPED_TRACE(expected.name);
    auto golden =
        models::testing::read_golden_case(NEUTRINO_SOURCE_DIR "/tests/golden/models", expected.name);
    golden.config["max_position_embeddings"] = 4096;
    const models::testing::TemporaryFolder folder;
    models::testing::write_checkpoint(golden, folder.path());
    const testing::LoadedModel loaded(folder.path(), {.threads = 1});
    Metrics metrics;
    SystemClock clock;
    const Engine engine(*loaded.model, *loaded.backend, {.max_sequences = 2, .batch_tokens = 32}, metrics,
                        clock);
    const auto& groups = engine.kv_plan().groups();
    EXPECT_EQ(groups.size(), expected.full > 0 ? 2U : 1U);
    compute::KvCacheShape shape = loaded.model->kv_cache_shape(1);
    const int64_t all = compute::kv_block_bytes(shape, Arithmetic::integer),
                  layers = std::ssize(shape.layers);
    EXPECT_EQ(layers % (expected.full + expected.windowed), 0);
    EXPECT_EQ(groups.back().bytes_per_block, all * expected.windowed / (expected.full + expected.windowed));
    EXPECT_GT(groups.back().window, 0);
    EXPECT_EQ(engine.kv_bytes(), engine.kv_plan().bytes(engine.options().kv_blocks));
    EXPECT_LT(engine.kv_bytes(), all * engine.options().kv_blocks);
  }
}

}  // namespace
}  // namespace neutrino::engine
