#include "cloud/autoscaler.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kStartMs = 1'700'000'000'000;  // Tuesday, 2023-11-14 22:13:20 UTC

// An endpoint whose replicas take `start_s` to load, run against decide() second by second.
struct Endpoint {
  ScalingPolicy policy;
  int64_t start_s = 0;
  AutoscalerMemory memory{};
  int64_t now_ms = kStartMs;
  int64_t ready = 0;
  std::deque<int64_t> loading{};  // when each will be ready
  ScalingDecision last{};

  void second(ScalingSample sample, const std::optional<OperatorAction>& by_hand = {}) {
    now_ms += 1000;
    for (; !loading.empty() && loading.front() <= now_ms; loading.pop_front()) ++ready;
    sample.at_ms = now_ms;
    last = decide(policy, memory, sample, {ready, static_cast<int64_t>(loading.size())}, by_hand);
    apply(last.replicas);
  }
  void seconds(int64_t n, const ScalingSample& sample) {
    for (int64_t i = 0; i < n; ++i) second(sample);
  }
  int64_t total() const { return ready + static_cast<int64_t>(loading.size()); }

 private:
  void apply(int64_t wanted) {
    while (total() < wanted) loading.push_back(now_ms + start_s * 1000);
    while (total() > wanted && !loading.empty()) loading.pop_back();
    ready = std::min(ready, wanted);
    if (start_s == 0) ready = total(), loading.clear();
  }
};

ScalingSample tokens(double in_flight) { return {.tokens_in_flight = in_flight, .requests_started = 1}; }

const ScalingSample kNothing{};

TEST(Autoscaler, OneRequestThatWaitsWakesASleepingEndpoint) {
  Endpoint endpoint{.policy = {.replicas_max = 8}};
  endpoint.seconds(10, kNothing);
  EXPECT_EQ(endpoint.total(), 0) << "nobody asked for it";
  endpoint.second({.tokens_queued = 10, .requests_held = 1, .requests_started = 1});
  EXPECT_EQ(endpoint.last.replicas, 1);
  EXPECT_NE(endpoint.last.reason, "");
}

TEST(Autoscaler, GoesToZeroAfterTheIdleTimeoutAndNotBefore) {
  Endpoint endpoint{.policy = {.replicas_max = 8, .idle_timeout_s = 100, .scale_down_delay_s = 30}};
  endpoint.second(tokens(10));
  endpoint.seconds(99, kNothing);
  EXPECT_EQ(endpoint.total(), 1);
  endpoint.second(kNothing);
  EXPECT_EQ(endpoint.total(), 0) << endpoint.last.reason;
  endpoint.second(tokens(10));
  EXPECT_EQ(endpoint.total(), 1) << "and back";
}

TEST(Autoscaler, IdleTimeoutZeroNeverSleeps) {
  Endpoint endpoint{.policy = {.replicas_max = 8, .idle_timeout_s = 0}};
  endpoint.second(tokens(10));
  endpoint.seconds(10'000, kNothing);
  EXPECT_EQ(endpoint.total(), 1);
}

TEST(Autoscaler, TheMinimumStaysWithoutTraffic) {
  Endpoint endpoint{.policy = {.replicas_min = 2, .replicas_max = 8, .idle_timeout_s = 10}};
  endpoint.seconds(100, kNothing);
  EXPECT_EQ(endpoint.total(), 2);
}

TEST(Autoscaler, SteadyLoadGetsWhatItNeedsAndNoMore) {
  Endpoint endpoint{.policy = {.replicas_max = 100, .tokens_per_replica = 1000}, .start_s = 20};
  int64_t most = 0;
  for (int i = 0; i < 600; ++i) {
    endpoint.second(tokens(7500));
    most = std::max(most, endpoint.total());
  }
  EXPECT_EQ(endpoint.ready, 8);
  EXPECT_EQ(most, 8) << "loading replicas count";
}

TEST(Autoscaler, ABurstIsFollowedWithinThePanicWindow) {
  Endpoint endpoint{.policy = {.replicas_max = 100, .tokens_per_replica = 1000}};
  endpoint.seconds(300, tokens(1000));
  EXPECT_EQ(endpoint.total(), 1);
  endpoint.seconds(10, tokens(10'000));
  EXPECT_TRUE(endpoint.last.panic);
  EXPECT_EQ(endpoint.total(), 10) << endpoint.last.reason;
  endpoint.seconds(59, tokens(1000));
  EXPECT_EQ(endpoint.total(), 10) << "nothing shrinks in panic";
}

TEST(Autoscaler, WithoutAPanicWindowTheSameBurstWouldWait) {  // the negative control of the test above
  Endpoint endpoint{.policy = {.replicas_max = 100, .tokens_per_replica = 1000, .panic_window_s = 60}};
  endpoint.seconds(300, tokens(1000));
  endpoint.seconds(6, tokens(10'000));
  EXPECT_LT(endpoint.total(), 10);
}

TEST(Autoscaler, GrowthIsLimitedAtOnce) {
  Endpoint endpoint{.policy = {.replicas_max = 1000, .tokens_per_replica = 10, .scale_up_factor_max = 4},
                    .start_s = 30};
  endpoint.second(tokens(100'000));
  EXPECT_EQ(endpoint.last.replicas, 4);
  endpoint.seconds(20, tokens(100'000));
  EXPECT_EQ(endpoint.last.replicas, 4) << "until some of them are ready";
  endpoint.seconds(15, tokens(100'000));
  EXPECT_EQ(endpoint.last.replicas, 16);
}

TEST(Autoscaler, ShrinksAfterTheDelay) {
  Endpoint endpoint{.policy = {.replicas_max = 100, .tokens_per_replica = 1000, .scale_down_delay_s = 300}};
  endpoint.seconds(400, tokens(5000));
  EXPECT_EQ(endpoint.total(), 5);
  int64_t waited = 0;
  for (; endpoint.total() == 5 && waited < 1000; ++waited) endpoint.second(tokens(1000));
  EXPECT_GE(waited, 300);
  EXPECT_LE(waited, 362) << "the delay, and the stable window";
  endpoint.seconds(400, tokens(1000));
  EXPECT_EQ(endpoint.total(), 1);
}

TEST(Autoscaler, LoadThatSwingsDoesNotMakeReplicasComeAndGo) {
  Endpoint endpoint{.policy = {.replicas_max = 100, .tokens_per_replica = 1000}, .start_s = 15};
  endpoint.seconds(300, tokens(4000));
  int64_t changes = 0, before = endpoint.total();
  for (int i = 0; i < 1800; ++i) {
    endpoint.second(tokens(i / 90 % 2 == 0 ? 1500 : 4500));
    changes += endpoint.total() != before;
    before = endpoint.total();
  }
  EXPECT_LE(changes, 2);
}

TEST(Autoscaler, RequestsAMinute) {
  Endpoint endpoint{.policy = {.replicas_max = 100, .tokens_per_replica = 0, .requests_per_minute = 60}};
  endpoint.seconds(120, {.requests_started = 3});
  EXPECT_EQ(endpoint.total(), 3) << endpoint.last.reason;
}

TEST(Autoscaler, LatencyAboveItsLimitAddsReplicasInProportionAndOnce) {
  ScalingPolicy policy{
      .replicas_min = 2, .replicas_max = 100, .tokens_per_replica = 0, .time_to_first_token_p90_ms = 500};
  Endpoint endpoint{.policy = policy, .start_s = 20};
  endpoint.seconds(30, kNothing);
  int64_t most = 0;
  for (int i = 0; i < 600; ++i) {  // work that takes 2000 ms on one replica and divides by their number
    endpoint.second(
        {.tokens_in_flight = 1,
         .time_to_first_token_p90_ms = 2000.0 / static_cast<double>(std::max<int64_t>(endpoint.ready, 1))});
    most = std::max(most, endpoint.total());
  }
  EXPECT_EQ(endpoint.total(), 4);
  EXPECT_EQ(most, 4) << "what has come since must not be multiplied again";
}

TEST(Autoscaler, TheMaximumIsKeptAndSaid) {
  Endpoint endpoint{.policy = {.replicas_max = 3, .tokens_per_replica = 10}};
  endpoint.seconds(30, tokens(1e12));
  EXPECT_EQ(endpoint.total(), 3);
  EXPECT_NE(endpoint.last.reason.find("at most 3"), std::string::npos) << endpoint.last.reason;
}

TEST(Autoscaler, AnOperatorsNumberHoldsAgainstLoadAndIdleness) {
  Endpoint endpoint{
      .policy = {.replicas_max = 10, .tokens_per_replica = 100, .idle_timeout_s = 10, .operator_hold_s = 60}};
  endpoint.seconds(30, tokens(300));
  const OperatorAction by_hand{.replicas = 5, .at_ms = endpoint.now_ms};
  for (int i = 0; i < 59; ++i) {
    endpoint.second(i < 30 ? tokens(900) : kNothing, by_hand);
    ASSERT_EQ(endpoint.total(), 5) << i;
  }
  endpoint.seconds(2, kNothing);
  EXPECT_EQ(endpoint.total(), 0) << "afterwards the policy is back";
}

TEST(Autoscaler, AClockThatJumpsNeverShrinks) {
  for (const int64_t jump_ms : {-3'600'000, -1'500, 90'000, 86'400'000}) {
    Endpoint endpoint{.policy = {.replicas_max = 10, .tokens_per_replica = 100, .idle_timeout_s = 600}};
    endpoint.seconds(400, tokens(500));
    ASSERT_EQ(endpoint.total(), 5);
    endpoint.now_ms += jump_ms;
    endpoint.seconds(60, kNothing);
    EXPECT_EQ(endpoint.total(), 5) << jump_ms;
  }
}

TEST(Autoscaler, AfterARestartOfItsOwnItShrinksNothingBeforeItHasWatched) {
  Endpoint endpoint{.policy = {.replicas_max = 10, .tokens_per_replica = 100, .scale_down_delay_s = 120}};
  endpoint.ready = 7;
  endpoint.seconds(119, tokens(100));
  EXPECT_EQ(endpoint.total(), 7);
  endpoint.seconds(5, tokens(100));
  EXPECT_EQ(endpoint.total(), 1);
}

TEST(Autoscaler, ScheduleWindows) {
  // Tuesday 22:13. A window from Tuesday 22:00 to 02:00 the next day; one on Sundays.
  const ScheduleWindow night{
      .days = 1 << 2, .begin_minute = 22 * 60, .end_minute = 2 * 60, .replicas_min = 3};
  const ScheduleWindow sunday{.days = 1 << 0, .begin_minute = 0, .end_minute = 1440, .replicas_min = 9};
  struct Case {
    int64_t minutes;
    int64_t replicas;
  };
  for (const Case c : {Case{0, 3}, {60, 3}, {3 * 60 + 46, 3}, {3 * 60 + 48, 0}, {24 * 60, 0}, {-20, 0}}) {
    Endpoint endpoint{.policy = {.replicas_max = 4, .schedule = {night, sunday}}};
    endpoint.now_ms += c.minutes * 60'000;
    endpoint.second(kNothing);
    EXPECT_EQ(endpoint.total(), c.replicas) << c.minutes;
  }
  Endpoint capped{.policy = {.replicas_max = 8, .tokens_per_replica = 1, .schedule = {night}}};
  capped.policy.schedule[0] = {.begin_minute = 0, .end_minute = 1440, .replicas_max = 2};
  capped.seconds(10, tokens(1000));
  EXPECT_EQ(capped.total(), 2);
}

TEST(Autoscaler, ASleepingEndpointKeepsNothing) {
  Endpoint endpoint{.policy = {.replicas_max = 8, .idle_timeout_s = 10}};
  endpoint.seconds(100, tokens(10));
  endpoint.seconds(100, kNothing);
  EXPECT_EQ(endpoint.memory.loads.size(), 0U);
  EXPECT_EQ(endpoint.memory.wanted.size(), 0U);
}

TEST(Autoscaler, BadPoliciesAreRefusedByTheirField) {
  const auto refused = [](const std::function<void(ScalingPolicy&)>& change) -> std::string {
    ScalingPolicy policy{.schedule = {{.begin_minute = 0, .end_minute = 60, .replicas_min = 1}}};
    change(policy);
    try {
      validate(policy);
      return "accepted";
    } catch (const Error& error) {
      return error.param();
    }
  };
  using P = ScalingPolicy;
  EXPECT_EQ(refused([](P&) {}), "accepted");
  EXPECT_EQ(refused([](P& p) { p.replicas_min = -1; }), "replicas_min");
  EXPECT_EQ(refused([](P& p) { p.replicas_min = 2; }), "replicas_max");
  EXPECT_EQ(refused([](P& p) { p.tokens_per_replica = -1; }), "tokens_per_replica");
  EXPECT_EQ(refused([](P& p) { p.stable_window_s = 1; }), "stable_window_s");
  EXPECT_EQ(refused([](P& p) { p.panic_threshold = 1; }), "panic_threshold");
  EXPECT_EQ(refused([](P& p) { p.scale_up_factor_max = 1; }), "scale_up_factor_max");
  EXPECT_EQ(refused([](P& p) { p.schedule[0].days = 0; }), "schedule[0].days");
  EXPECT_EQ(refused([](P& p) { p.schedule[0].begin_minute = 1440; }), "schedule[0].begin_minute");
  EXPECT_EQ(refused([](P& p) { p.schedule[0].replicas_max = 0; }), "schedule[0].replicas_max");
  EXPECT_EQ(refused([](P& p) { p.schedule[0].replicas_min.reset(); }), "schedule[0].replicas_min");
}

}  // namespace
}  // namespace neutrino::cloud
