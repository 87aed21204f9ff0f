#include "compute/cpu/thread_team.h"

#include <gtest/gtest.h>

#include <vector>

namespace neutrino::compute::cpu {
namespace {

// Operations of changing size follow each other at once, with more threads than cores: a worker that comes late out of one
// must not touch the next. Each item is counted where only its own operation counts.
TEST(ThreadTeam, EachItemOfEachOperationRunsOnce) {
  constexpr int64_t kItemsMost = 40;
  ThreadTeam team(4);
  for (int64_t round = 0; round < 300'000; ++round) {
    const int64_t items = 2 + round * 7 % (kItemsMost - 2);
    std::vector<int> runs(kItemsMost, 0);
    team.run(items, [&runs](int64_t item, int64_t) { ++runs[static_cast<size_t>(item)]; });
    for (int64_t item = 0; item < kItemsMost; ++item)
      ASSERT_EQ(runs[static_cast<size_t>(item)], item < items ? 1 : 0)
          << "round " << round << " item " << item;
  }
}

// What a phase wrote, each item of the next one reads, whichever thread has it; the numbers of items change all the time.
TEST(ThreadTeam, APhaseBeginsWhenTheOneBeforeIsDone) {
  ThreadTeam team(4);
  std::vector<int64_t> first(40), second(40);
  for (int64_t round = 1; round < 60'000; ++round) {
    const int64_t items = 1 + round % 37, later = 1 + round * 5 % 31;
    auto write = [&](int64_t item, int64_t) { first[static_cast<size_t>(item)] = round; };
    auto check_all = [&](int64_t item, int64_t) {
      int64_t sum = 0;
      for (int64_t i = 0; i < items; ++i) sum += first[static_cast<size_t>(i)];
      second[static_cast<size_t>(item)] = sum;
    };
    int64_t good = 0;
    auto count = [&](int64_t, int64_t) {
      for (int64_t i = 0; i < later; ++i) good += second[static_cast<size_t>(i)] == items * round;
    };
    const ThreadTeam::Phase phases[] = {ThreadTeam::phase(items, write), ThreadTeam::phase(later, check_all),
                                        ThreadTeam::phase(0, write), ThreadTeam::phase(1, count)};
    team.run(phases);
    ASSERT_EQ(good, later) << "round " << round;
  }
}

TEST(ThreadTeam, CountsHowOftenTheThreadsWereCalled) {
  ThreadTeam team(2);
  auto nothing = [](int64_t, int64_t) {};
  const ThreadTeam::Phase one = ThreadTeam::phase(1, nothing), many = ThreadTeam::phase(8, nothing);
  const ThreadTeam::Phase both[] = {one, many}, single[] = {one, one};
  team.run(both);
  EXPECT_EQ(team.forks(), 1);
  team.run(single);
  EXPECT_EQ(team.forks(), 1) << "nothing to share";
  team.run(8, nothing);
  EXPECT_EQ(team.forks(), 2);
}

}  // namespace
}  // namespace neutrino::compute::cpu
