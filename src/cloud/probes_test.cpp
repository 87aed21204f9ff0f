#include "cloud/probes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace neutrino::cloud {
namespace {

using ::testing::HasSubstr;

constexpr ProbeResult kGood = ProbeResult::success, kBad = ProbeResult::failure;

ProbePlan plan() {
  return {
      .startup = {.path = "/ready", .period_ms = 100, .timeout_ms = 50},
      .readiness = {.path = "/ready", .period_ms = 1000, .timeout_ms = 500, .failures = 2, .successes = 2},
      .liveness = {.path = "/live", .period_ms = 5000, .timeout_ms = 500, .failures = 3},
      .startup_deadline_ms = 1000};
}

// A tracker and its clock: asks what is next, when it is due, and gives the answer 10 ms later.
struct Replica {
  ProbeTracker tracker{plan(), 0};
  int64_t now_ms = 0;

  ProbeKind asked = ProbeKind::startup;
  bool answer(ProbeResult result, const std::string& detail = "status 503") {
    const auto question = tracker.next();
    if (!question) return false;
    asked = question->kind;
    now_ms = std::max(now_ms, question->at_ms);
    const int64_t asked_ms = now_ms;
    now_ms += 10;
    return tracker.take(question->kind, asked_ms, now_ms, result, detail);
  }
  // Only one of the two kinds is answered with `result`, the other one well.
  void answer_kind(ProbeKind kind, ProbeResult result) {
    for (;;) {
      const bool wanted = tracker.next()->kind == kind;
      answer(wanted ? result : kGood);
      if (wanted) return;
    }
  }
  const ProbeVerdict& verdict() const { return tracker.verdict(); }
};

TEST(Probes, a_slow_start_is_no_failure) {
  Replica replica;
  for (int i = 0; i < 9; ++i) {
    EXPECT_FALSE(replica.answer(kBad, "connection refused"));
    EXPECT_FALSE(replica.verdict().started);
    EXPECT_EQ(replica.verdict().reason, Reason::in_progress);
  }
  EXPECT_TRUE(replica.answer(kGood));
  EXPECT_EQ(replica.verdict(), (ProbeVerdict{.started = true, .ready = true, .reason = Reason::ready}));
  EXPECT_LT(replica.now_ms, 1000);
}

TEST(Probes, a_start_has_a_deadline) {
  Replica replica;
  while (!replica.verdict().failed) replica.answer(kBad, "connection refused");
  EXPECT_GE(replica.now_ms, 1000);
  EXPECT_LT(replica.now_ms, 1200);
  EXPECT_EQ(replica.verdict().reason, Reason::startup_timeout);
  EXPECT_EQ(replica.verdict().message, "did not start within 1 s: connection refused");
  EXPECT_FALSE(replica.tracker.next().has_value());
  EXPECT_FALSE(replica.tracker.take(ProbeKind::startup, 1200, 1210, kGood, ""));
  EXPECT_TRUE(replica.verdict().failed);
}

TEST(Probes, an_answer_behind_the_deadline_still_counts) {
  Replica replica;
  replica.now_ms = 5000;  // nobody asked for a while
  EXPECT_TRUE(replica.answer(kGood));
  EXPECT_TRUE(replica.verdict().ready);
}

TEST(Probes, readiness_goes_after_failures_in_a_row_and_comes_back_after_successes_in_a_row) {
  Replica replica;
  replica.answer(kGood);
  const std::vector<std::pair<ProbeResult, bool>> steps = {
      {kBad, true},  {kGood, true},  {kBad, true},  {kBad, false}, {kBad, false}, {kGood, false},
      {kBad, false}, {kGood, false}, {kGood, true}, {kBad, true},  {kBad, false}};
  for (const auto& [result, ready] : steps) {
    replica.answer_kind(ProbeKind::readiness, result);
    EXPECT_EQ(replica.verdict().ready, ready);
    EXPECT_EQ(replica.verdict().reason, ready ? Reason::ready : Reason::not_ready);
    EXPECT_FALSE(replica.verdict().failed);
  }
  EXPECT_EQ(replica.verdict().message, "status 503");
}

TEST(Probes, a_replica_that_is_not_ready_is_left_alone_however_long) {
  Replica replica;
  replica.answer(kGood);
  for (int i = 0; i < 1000; ++i) replica.answer_kind(ProbeKind::readiness, kBad);
  EXPECT_FALSE(replica.verdict().failed);
  EXPECT_FALSE(replica.verdict().ready);
}

TEST(Probes, liveness_fails_after_so_many_in_a_row_and_for_good) {
  Replica replica;
  replica.answer(kGood);
  for (const ProbeResult result : {kBad, kBad, kGood, kBad, kBad}) {
    replica.answer_kind(ProbeKind::liveness, result);
    EXPECT_FALSE(replica.verdict().failed);
  }
  replica.answer_kind(ProbeKind::liveness, kBad);
  EXPECT_TRUE(replica.verdict().failed);
  EXPECT_FALSE(replica.verdict().ready);
  EXPECT_EQ(replica.verdict().reason, Reason::liveness_failed);
  EXPECT_THAT(replica.verdict().message, HasSubstr("3 liveness probes in a row failed: status 503"));
}

// The control plane may be stopped for a minute (a debugger, a snapshot, a busy machine): that is nobody's failure.
TEST(Probes, who_was_held_up_itself_blames_nobody) {
  Replica replica;
  replica.answer(kGood);
  for (int i = 0; i < 50; ++i) {
    const int64_t asked_ms = replica.now_ms;
    replica.now_ms += 60'000;
    replica.tracker.take(ProbeKind::liveness, asked_ms, replica.now_ms, kBad, "timeout");
    replica.tracker.take(ProbeKind::readiness, asked_ms, replica.now_ms, kBad, "timeout");
  }
  EXPECT_TRUE(replica.verdict().ready);
  EXPECT_FALSE(replica.verdict().failed);
}

TEST(Probes, questions_keep_their_periods_and_are_not_made_up_for) {
  Replica replica;
  replica.answer(kGood);
  EXPECT_EQ(replica.tracker.next()->kind, ProbeKind::readiness);
  EXPECT_EQ(replica.tracker.next()->at_ms, 1010);
  replica.now_ms = 100'000;
  replica.answer(kGood);
  EXPECT_EQ(replica.tracker.next()->kind, ProbeKind::liveness);  // overdue, too
  replica.answer(kGood);
  EXPECT_EQ(replica.tracker.next()->kind, ProbeKind::readiness);
  EXPECT_EQ(replica.tracker.next()->at_ms, 101'000);
}

TEST(Probes, what_has_no_path_is_not_asked) {
  ProbePlan none = plan();
  none.startup.path = none.readiness.path = none.liveness.path = "";
  const ProbeTracker tracker(none, 0);
  EXPECT_TRUE(tracker.verdict().ready);
  EXPECT_FALSE(tracker.next().has_value());

  ProbePlan alive = none;
  alive.liveness.path = "/live";
  const ProbeTracker live(alive, 0);
  EXPECT_EQ(live.next()->kind, ProbeKind::liveness);
  EXPECT_EQ(live.next()->at_ms, 5000);
}

TEST(Probes, a_late_answer_of_the_start_changes_nothing) {
  Replica replica;
  replica.answer(kGood);
  EXPECT_FALSE(replica.tracker.take(ProbeKind::startup, 0, 20, kBad, "late"));
  EXPECT_TRUE(replica.verdict().ready);
}

TEST(Restarts, table) {
  const RestartPolicy policy{
      .free_restarts = 2, .delay_ms = 1000, .delay_max_ms = 10'000, .healthy_ms = 60'000};
  struct Case {
    int64_t failures, ran_ms;
    Reason ended;
    int64_t failures_after, delay_ms;
  };
  const Case cases[] = {
      {0, 100, Reason::crashed, 1, 0},           {1, 100, Reason::crashed, 2, 0},
      {2, 100, Reason::crashed, 3, 1000},        {3, 100, Reason::out_of_memory, 4, 2000},
      {4, 100, Reason::crashed, 5, 4000},        {5, 100, Reason::completed, 6, 8000},
      {6, 100, Reason::crashed, 7, 10'000},      {1'000'000, 100, Reason::crashed, 1'000'001, 10'000},
      {6, 59'999, Reason::crashed, 7, 10'000},   {6, 60'000, Reason::crashed, 1, 0},
      {0, 100, Reason::config_error, 1, 10'000}, {0, 60'000, Reason::config_error, 1, 10'000},
  };
  for (const Case& c : cases) {
    const RestartDecision decision = decide_restart(policy, c.failures, c.ran_ms, c.ended);
    EXPECT_EQ(decision.failures, c.failures_after) << c.failures;
    EXPECT_EQ(decision.delay_ms, c.delay_ms) << c.failures;
    EXPECT_EQ(decision.reason, c.delay_ms > 0 ? Reason::back_off : Reason::in_progress);
    EXPECT_EQ(decision.message.empty(), c.delay_ms == 0);
  }
  EXPECT_EQ(decide_restart(policy, 2, 100, Reason::crashed).message,
            "starts again 1.0 s after its end (Crashed), for it ended 3 times in a row");
}

}  // namespace
}  // namespace neutrino::cloud
