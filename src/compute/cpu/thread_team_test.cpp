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

}  // namespace
}  // namespace neutrino::compute::cpu
