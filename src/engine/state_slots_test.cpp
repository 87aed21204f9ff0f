#include "engine/state_slots.h"

#include <gtest/gtest.h>

#include <set>

#include "base/random.h"

namespace neutrino::engine {
namespace {

const auto kAllNamed = [](int32_t) { return true; };

TEST(StateSlots, AModelWithoutStatesHasNone) {
  StateSlots states(0, 0, 10);
  EXPECT_FALSE(states.in_use());
  EXPECT_FALSE(states.keeps_snapshots());
  EXPECT_EQ(states.slots(), 0);
  EXPECT_FALSE(states.has_snapshot(3));
  states.drop_snapshot(3);
}

TEST(StateSlots, SequencesAndSnapshotsHaveSlotsOfTheirOwn) {
  StateSlots states(2, 2, 10);
  const std::set<int32_t> slots{states.take(), states.take(), states.add_snapshot(7), states.add_snapshot(8)};
  EXPECT_EQ(slots, (std::set<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(states.counts().sequences, 2);
  EXPECT_EQ(states.counts().snapshots, 2);
  states.give_back(1);
  EXPECT_EQ(states.take(), 1);
  states.check_invariants(kAllNamed);
}

TEST(StateSlots, TheLeastRecentlyUsedSnapshotGoesFirst) {
  StateSlots states(1, 2, 10);
  const int32_t first = states.add_snapshot(1), second = states.add_snapshot(2);
  EXPECT_EQ(states.use_snapshot(1), first);
  EXPECT_EQ(states.add_snapshot(3), second);
  EXPECT_TRUE(states.has_snapshot(1));
  EXPECT_FALSE(states.has_snapshot(2));
  states.drop_snapshot(1);
  EXPECT_EQ(states.add_snapshot(4), first);
  EXPECT_TRUE(states.has_snapshot(3));
  states.check_invariants(kAllNamed);
}

TEST(StateSlots, ALaterSnapshotReplacesOneThatNobodyUsed) {
  StateSlots states(1, 4, 10);
  states.add_snapshot(1);
  states.drop_unused_snapshot(1);
  EXPECT_FALSE(states.has_snapshot(1));
  states.add_snapshot(2);
  states.use_snapshot(2);
  states.drop_unused_snapshot(2);
  EXPECT_TRUE(states.has_snapshot(2));
}

TEST(StateSlots, RandomCallsKeepTheInvariants) {
  Random random(5);
  StateSlots states(3, 5, 12);
  std::vector<int32_t> taken;
  for (int i = 0; i < 5000; ++i) {
    const int32_t block = static_cast<int32_t>(random.below(12));
    if (random.chance(0.3)) {
      if (!states.has_snapshot(block)) states.add_snapshot(block);
    } else if (random.chance(0.3)) {
      if (states.has_snapshot(block)) states.use_snapshot(block);
    } else if (random.chance(0.3)) {
      states.drop_snapshot(block);
    } else if (taken.size() < 3 && random.chance(0.5)) {
      taken.push_back(states.take());
    } else if (!taken.empty()) {
      states.give_back(taken.back());
      taken.pop_back();
    }
    states.check_invariants(kAllNamed);
    ASSERT_EQ(states.counts().sequences, std::ssize(taken));
  }
}

TEST(StateSlotsDeathTest, MistakesAreFound) {
  StateSlots states(1, 1, 4);
  const int32_t slot = states.take();
  EXPECT_DEATH(states.take(), "more sequences run");
  EXPECT_DEATH(states.give_back(1), "no sequence's");
  EXPECT_DEATH(states.use_snapshot(0), "not there");
  states.add_snapshot(0);
  EXPECT_DEATH(states.add_snapshot(0), "second snapshot");
  EXPECT_DEATH(states.check_invariants([](int32_t) { return false; }), "outlived");
  states.give_back(slot);
  states.give_back(slot);
  EXPECT_DEATH(states.check_invariants(kAllNamed), "given back twice");
}

}  // namespace
}  // namespace neutrino::engine
