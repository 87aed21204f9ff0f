#include "engine/block_manager.h"

#include <gtest/gtest.h>

#include <array>
#include <map>
#include <set>

#include "base/random.h"

namespace neutrino::engine {
namespace {

Sha256Digest name(int64_t n) { return sha256(std::to_string(n)); }

TEST(BlockManager, SharesANamedBlockAndKeepsItUntilItIsEvicted) {
  BlockManager blocks(2, PrefixCache::on);
  const int32_t first = *blocks.allocate();
  blocks.set_name(first, name(1));
  EXPECT_EQ(blocks.find(name(1)), first);
  EXPECT_EQ(blocks.references(first), 2);
  blocks.release(first);
  blocks.release(first);
  EXPECT_EQ(blocks.counts().cached, 1);
  const int32_t second = *blocks.allocate();  // a free one goes before a cached one
  EXPECT_NE(second, first);
  EXPECT_EQ(blocks.allocate(), first);
  EXPECT_EQ(blocks.evictions(), 1);
  EXPECT_EQ(blocks.find(name(1)), std::nullopt);
  EXPECT_EQ(blocks.allocate(), std::nullopt);
  blocks.check_invariants();
}

TEST(BlockManager, EvictsTheLeastRecentlyUsed) {
  BlockManager blocks(3, PrefixCache::on);
  std::array<int32_t, 3> ids{};
  for (int i = 0; i < 3; ++i) blocks.set_name(ids[static_cast<size_t>(i)] = *blocks.allocate(), name(i));
  for (const int32_t id : ids) blocks.release(id);
  blocks.release(*blocks.find(name(0)));  // 0 becomes the most recent
  EXPECT_EQ(blocks.allocate(), ids[1]);
  EXPECT_EQ(blocks.allocate(), ids[2]);
  EXPECT_EQ(blocks.allocate(), ids[0]);
}

TEST(BlockManager, OffKeepsNothing) {
  BlockManager blocks(1, PrefixCache::off);
  const int32_t id = *blocks.allocate();
  blocks.set_name(id, name(1));
  blocks.release(id);
  EXPECT_EQ(blocks.counts().free, 1);
  EXPECT_EQ(blocks.find(name(1)), std::nullopt);
}

TEST(BlockManager, TwoComputedTheSame) {
  BlockManager blocks(2, PrefixCache::on);
  const int32_t a = *blocks.allocate(), b = *blocks.allocate();
  blocks.set_name(a, name(1));
  blocks.set_name(b, name(1));
  blocks.release(b);
  EXPECT_EQ(blocks.counts().free, 1);
  blocks.release(a);
  EXPECT_EQ(blocks.counts().cached, 1);
  blocks.check_invariants();
}

// Random operations beside a model of them made of maps.
TEST(BlockManager, RandomOperationsKeepTheInvariants) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Random random(seed);
    BlockManager blocks(random.between(1, 40), PrefixCache::on);
    std::map<int32_t, int64_t> held;
    for (int i = 0; i < 1000; ++i) {
      const int64_t what = random.below(4);
      if (what == 0) {
        const auto id = blocks.allocate();
        EXPECT_TRUE(!id || held[*id]++ == 0) << "handed out twice";
      } else if (what == 1) {
        if (const auto id = blocks.find(name(random.below(60)))) ++held[*id];
      } else if (!held.empty()) {
        const auto entry = std::next(held.begin(), random.below(std::ssize(held)));
        if (what == 2) {
          blocks.set_name(entry->first, name(random.below(60)));
        } else {
          blocks.release(entry->first);
          if (--entry->second == 0) held.erase(entry);
        }
      }
      blocks.check_invariants();
      EXPECT_EQ(blocks.counts().referenced, std::ssize(held));
    }
  }
}

TEST(BlockManagerDeathTest, NobodyReleasesWhatNobodyHolds) {
  BlockManager blocks(1, PrefixCache::on);
  EXPECT_DEATH(blocks.release(0), "nobody holds");
}

TEST(PrefixNames, DependOnAllTheyShould) {
  std::set<Sha256Digest> names;
  names.insert(prefix_root("", "model", ""));
  names.insert(prefix_root("m", "odel", ""));
  names.insert(prefix_root("", "model", "a"));
  names.insert(prefix_root("salt", "model", ""));
  EXPECT_EQ(names.size(), 4U);

  Sha256 hash;
  std::array<int32_t, compute::kBlockPositions> tokens{};
  const Sha256Digest root = prefix_root("", "model", "");
  const Sha256Digest first = extend_prefix(hash, root, tokens);
  names.insert(first);
  names.insert(extend_prefix(hash, first, tokens));
  tokens.back() = 1;
  names.insert(extend_prefix(hash, root, tokens));
  EXPECT_EQ(names.size(), 7U);
}

}  // namespace
}  // namespace neutrino::engine
