#include "cloud/rollout.h"

#include <gtest/gtest.h>

#include "cloud/placement.h"

namespace neutrino::cloud {
namespace {

// One letter a replica. Of the wanted revision: R ready, L loading, U unknown, D drained and ready, S to be stopped; of an older one: r l u d s.
std::vector<Replica> replicas(std::string_view letters) {
  std::vector<Replica> result;
  for (const char letter : letters) {
    const char kind = static_cast<char>(std::toupper(letter));
    result.push_back({.id = fmt::format("d-{}", result.size()),
                      .deployment = "d",
                      .revision = letter == kind ? 2 : 1,
                      .goal = kind == 'D'   ? ReplicaGoal::drain
                              : kind == 'S' ? ReplicaGoal::stop
                                            : ReplicaGoal::run,
                      .state = kind == 'L'   ? ReplicaState::loading
                               : kind == 'U' ? ReplicaState::unknown
                                             : ReplicaState::ready});
  }
  return result;
}

struct Case {
  std::string_view what;
  int64_t wanted;
  RolloutPolicy rollout;
  std::string_view replicas;
  int64_t make;
  std::string_view drained;  // letters
  int64_t taken_back = 0;
  int64_t revision = 2;
};

TEST(Rollout, MovesOneAtATime) {
  const RolloutPolicy surge{.surge_max = 1, .unavailable_max = 0};
  const RolloutPolicy tight{.surge_max = 0, .unavailable_max = 1};
  const RolloutPolicy paused{.surge_max = 1, .unavailable_max = 0, .paused = true};
  const Case cases[] = {
      {"from nothing", 3, surge, "", 3, ""},
      {"loading ones count", 3, surge, "RLL", 0, ""},
      {"scale in", 1, surge, "RRR", 0, "RR"},
      {"scale in takes those that cannot serve first", 2, surge, "RLR", 0, "L"},
      {"to zero", 0, surge, "RLr", 0, "rLR"},
      {"scale out while others drain is not held up", 3, surge, "RSS", 2, ""},
      {"what is drained is taken back", 3, surge, "RDD", 0, "", 2},
      {"what is stopped is not", 2, surge, "RS", 1, ""},

      {"surge: one new first", 3, surge, "rrr", 1, ""},
      {"surge: none goes before it is ready", 3, surge, "rrrL", 0, ""},
      {"surge: then one old goes", 3, surge, "rrrR", 0, "r"},
      {"surge: its room is waited for", 3, surge, "rrdR", 0, ""},
      {"surge: and the next", 3, surge, "rrR", 1, ""},
      {"surge: the last one", 3, surge, "rRRR", 0, "r"},
      {"surge: what an old one leaves is not there for a second to leave", 2, surge, "rRRU", 0, "r"},
      {"an old one that cannot serve goes at once", 3, surge, "rrl", 1, "l"},
      {"a new revision that never gets ready changes nothing", 2, surge, "rrL", 0, ""},

      {"tight: one old goes first", 3, tight, "rrr", 0, "r"},
      {"tight: no room before it is gone", 3, tight, "rrd", 0, ""},
      {"tight: then a new one", 3, tight, "rr", 1, ""},
      {"tight: which is waited for", 3, tight, "rrL", 0, ""},
      {"tight: and on", 3, tight, "rrR", 0, "r"},

      {"paused: both revisions stay", 3, paused, "rrR", 0, ""},
      {"paused: scaling out makes the newest that is there", 3, paused, "rr", 1, "", 0, 1},
      {"unknown ones are left alone", 2, surge, "UU", 0, ""},
      {"unknown old ones are not drained", 2, tight, "uu", 0, ""},
      {"and are not made up for by taking the others", 3, surge, "urr", 1, ""},
  };
  for (const Case& c : cases) {
    const std::vector<Replica> rows = replicas(c.replicas);
    std::vector<const Replica*> pointers;
    for (const Replica& row : rows) pointers.push_back(&row);
    const Deployment deployment{.id = "d", .replicas = c.wanted, .revision = 2, .rollout = c.rollout};
    const Moves moves = next_moves(deployment, pointers, [](const Replica&) { return 0.0; });
    std::string drained;
    for (const Replica* replica : moves.drain)
      drained += c.replicas[static_cast<size_t>(replica - rows.data())];
    EXPECT_EQ(moves.make, c.make) << c.what;
    EXPECT_EQ(drained, c.drained) << c.what;
    EXPECT_EQ(std::ssize(moves.take_back), c.taken_back) << c.what;
    if (c.make > 0) {
      EXPECT_EQ(moves.revision, c.revision) << c.what;
    }
  }
}

TEST(Rollout, TheLeastLoadedGoesFirst) {
  const std::vector<Replica> rows = replicas("RRR");
  const Deployment deployment{.id = "d", .replicas = 2, .revision = 2};
  const Moves moves = next_moves(deployment, {&rows[0], &rows[1], &rows[2]},
                                 [](const Replica& replica) { return replica.id == "d-1" ? 10.0 : 500.0; });
  ASSERT_EQ(moves.drain.size(), 1U);
  EXPECT_EQ(moves.drain[0]->id, "d-1");
}

TEST(Placement, SpreadsAndSaysWhatIsMissing) {
  constexpr int64_t kGiB = int64_t{1} << 30;
  std::vector<NodeFacts> nodes{
      {.name = "a", .cores = 4, .memory_bytes = 8 * kGiB},
      {.name = "b", .cores = 4, .memory_bytes = 6 * kGiB},
      {.name = "c", .phase = NodePhase::missing, .cores = 64, .memory_bytes = 999 * kGiB}};
  NodeRoom room(nodes);
  const ReplicaTemplate three{.memory_bytes = 3 * kGiB};
  std::string order;
  for (int i = 0; i < 4; ++i) {
    const NodeRoom::Place place = room.find("d", three);
    order += place.node;
    room.take({.deployment = "d", .node = place.node, .replica_template = three});
  }
  EXPECT_EQ(order, "abab");
  const NodeRoom::Place none = room.find("d", three);
  EXPECT_EQ(none.node, "");
  EXPECT_EQ(none.message,
            "a replica needs 3.00 GiB, the node with the most room has 2.00 GiB left: 1.00 GiB too little");
  EXPECT_EQ(room.find("d", {.memory_bytes = kGiB, .cores = 5}).message,
            "a replica needs 5 cores, the node with the most has 4 left");
  nodes[0].phase = nodes[1].phase = NodePhase::missing;
  EXPECT_EQ(NodeRoom(nodes).find("d", three).message, "no node answers");
}

}  // namespace
}  // namespace neutrino::cloud
