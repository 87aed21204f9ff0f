// Priority, deadlines, and a queue that is bounded by the wait it means.
#include "engine/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/random.h"
#include "engine/engine.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

using chat::FinishReason;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// An engine over a FakeModel whose steps take time: a part each, and a part for each row.
struct Rig {
  explicit Rig(EngineOptions options = {}) : engine(model, backend, std::move(options), metrics, clock) {
    model.before_forward = [this](const compute::Batch& batch) {
      clock.advance_ns(2'000'000 + 100'000 * std::ssize(batch.tokens));
    };
  }
  testing::FakeModel model{64, 1024};
  testing::FakeBackend backend;
  Metrics metrics;
  SimulatedClock clock;
  Engine engine;

  chat::GenerationRequest request(int64_t prompt_tokens, int64_t max_tokens) {
    std::vector<int32_t> prompt;
    for (int64_t i = 0; i < prompt_tokens; ++i)
      prompt.push_back(static_cast<int32_t>((++drawn_ * 31 + i) % 60));
    return {.id = "r", .prompt = prompt, .sampling = {.temperature = 0, .max_tokens = max_tokens}};
  }
  SequencePtr submit(int64_t prompt_tokens, int64_t max_tokens, int64_t priority = 0,
                     int64_t timeout_ms = 0) {
    chat::GenerationRequest wanted = request(prompt_tokens, max_tokens);
    wanted.priority = priority;
    wanted.timeout_ms = timeout_ms;
    return engine.submit(std::move(wanted));
  }
  Error refusal(int64_t prompt_tokens, int64_t max_tokens, int64_t priority = 0, int64_t timeout_ms = 0) {
    try {
      submit(prompt_tokens, max_tokens, priority, timeout_ms);
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::internal, "was not refused");
  }
  void run_until_idle() {
    for (int i = 0; i < 100'000 && engine.step(); ++i) engine.blocks().check_invariants();
  }
  double seconds() const { return static_cast<double>(clock.now_ns()) * 1e-9; }

 private:
  int64_t drawn_ = 0;
};

TEST(Priority, LowerValuesAreServedFirstAndEqualOnesInOrder) {
  Rig rig({.max_sequences = 1, .queued_requests_max = 10});
  rig.submit(4, 20);
  rig.engine.step();
  const std::vector<SequencePtr> waiting = {rig.submit(4, 2, 5), rig.submit(4, 2), rig.submit(4, 2, 5),
                                            rig.submit(4, 2, -1), rig.submit(4, 2)};
  rig.run_until_idle();
  std::vector<size_t> order(waiting.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, {}, [&](size_t i) { return waiting[i]->scheduled_ns; });
  EXPECT_THAT(order, ElementsAre(3, 1, 4, 0, 2));
}

TEST(Priority, TheLeastImportantIsPreemptedEvenIfItIsTheOldest) {
  Rig rig({.max_sequences = 2, .kv_blocks = 4, .prefix_cache = PrefixCache::off});
  const SequencePtr old = rig.submit(30, 80, 1);
  for (int i = 0; i < 20; ++i) rig.engine.step();
  const SequencePtr young = rig.submit(30, 80, 0);
  rig.run_until_idle();
  EXPECT_GT(old->preemptions, 0);
  EXPECT_EQ(young->preemptions, 0);
  EXPECT_LT(young->last_token_ns, old->last_token_ns);
  EXPECT_EQ(old->stream.size(), 80);
}

TEST(Priority, AmongEqualsTheYoungestIsPreempted) {
  Rig rig({.max_sequences = 2, .kv_blocks = 4, .prefix_cache = PrefixCache::off});
  const SequencePtr old = rig.submit(30, 80);
  for (int i = 0; i < 20; ++i) rig.engine.step();
  const SequencePtr young = rig.submit(30, 80);
  rig.run_until_idle();
  EXPECT_EQ(old->preemptions, 0);
  EXPECT_GT(young->preemptions, 0);
}

TEST(Deadline, EndsAGenerationAndFreesItsBlocks) {
  Rig rig({.max_sequences = 1});
  const SequencePtr late = rig.submit(4, 1000, 0, 50);
  const SequencePtr queued = rig.submit(4, 1000, 0, 60);
  const SequencePtr patient = rig.submit(4, 10);
  rig.run_until_idle();
  for (const SequencePtr& sequence : {late, queued}) {
    EXPECT_EQ(sequence->stream.reason(), FinishReason::error);
    ASSERT_TRUE(sequence->stream.error().has_value());
    EXPECT_EQ(sequence->stream.error()->reason(), "deadline_exceeded");
    EXPECT_EQ(sequence->stream.error()->code(), ErrorCode::deadline_exceeded);
  }
  EXPECT_GT(late->stream.size(), 10);
  EXPECT_LT(late->stream.size(), 30);  // a step takes at least 2 ms
  EXPECT_LE(queued->stream.size(), 6);
  EXPECT_EQ(patient->stream.reason(), FinishReason::length);
  EXPECT_EQ(rig.engine.blocks().counts().referenced, 0);
}

TEST(Deadline, IsRefusedAtOnceWhenTheWaitIsLongerAlready) {
  Rig rig({.max_sequences = 1, .queue_wait_seconds_max = 0});
  rig.submit(4, 200);
  rig.run_until_idle();  // measured: a sequence of 200 tokens takes about 0.42 s
  for (int i = 0; i < 3; ++i) rig.submit(4, 200);
  rig.engine.step();
  const Error refused = rig.refusal(4, 200, 0, 500);
  EXPECT_EQ(refused.code(), ErrorCode::resource_exhausted);
  EXPECT_EQ(refused.reason(), "deadline_unreachable");
  EXPECT_NEAR(rig.engine.status().queue_drain_seconds, 3 * 0.42, 0.2);
  EXPECT_EQ(rig.submit(4, 200, 0, 5000)->stream.finished(), false);
  EXPECT_EQ(rig.submit(4, 200, -1, 500)->stream.finished(), false);  // it goes before them
  EXPECT_THAT(rig.metrics.text(), HasSubstr("reason=\"deadline\"} 1"));
}

TEST(Admission, ABoundOnTheWaitHolds) {
  Rig rig({.max_sequences = 2, .queue_wait_seconds_max = 0.5});
  for (int i = 0; i < 2; ++i) rig.submit(4, 100);
  rig.run_until_idle();
  int64_t accepted = 0;
  std::vector<SequencePtr> all;
  for (; accepted < 100; ++accepted) {
    try {
      all.push_back(rig.submit(4, 100));
    } catch (const Error& error) {
      EXPECT_EQ(error.reason(), "queue_full");
      break;
    }
    if (accepted == 1) rig.engine.step();
  }
  rig.run_until_idle();
  ASSERT_LT(accepted, 20);
  ASSERT_GT(accepted, 3);
  double longest = 0;
  for (const SequencePtr& sequence : all)
    longest = std::max(longest, static_cast<double>(sequence->scheduled_ns - sequence->submitted_ns) * 1e-9);
  EXPECT_LE(longest, 0.55);
  EXPECT_GE(longest, 0.35);
  EXPECT_THAT(rig.metrics.text(), HasSubstr("reason=\"expected_wait\"} 1"));
}

TEST(Admission, CheapRefusalSaysTheSame) {
  Rig rig({.max_sequences = 1, .queued_requests_max = 2});
  EXPECT_NO_THROW(rig.engine.check_admission());
  for (int i = 0; i < 2; ++i) rig.submit(4, 100);
  EXPECT_THROW(rig.engine.check_admission(), Error);
  EXPECT_EQ(rig.refusal(4, 100).reason(), "queue_full");
  rig.run_until_idle();
  EXPECT_NO_THROW(rig.engine.check_admission());
}

TEST(Admission, NothingIsRefusedForItsWaitBeforeAnythingWasMeasured) {
  Rig rig({.max_sequences = 2});
  for (int i = 0; i < 8; ++i) EXPECT_FALSE(rig.submit(4, 1000)->stream.finished());
}

// What an open loop of ten times the load does to those who are let in.
struct LoadRun {
  std::vector<double> first_token_seconds;
  int64_t sent = 0, refused = 0, ended = 0;
  double seconds = 0;
  double p95() const {
    std::vector<double> sorted = first_token_seconds;
    std::ranges::sort(sorted);
    return sorted[sorted.size() * 95 / 100];
  }
  double per_second() const { return static_cast<double>(first_token_seconds.size()) / seconds; }
};

LoadRun open_loop(Rig& rig, double rate, double seconds, uint64_t seed) {
  LoadRun run;
  std::vector<SequencePtr> admitted;
  const double start = rig.seconds(), end = start + seconds;
  double next = start;
  Random random(seed);
  while (next < end || !rig.engine.scheduler().running().empty()) {
    for (; next <= rig.seconds() && next < end; ++run.sent) {
      try {
        admitted.push_back(rig.submit(32, 16));
      } catch (const Error& error) {
        EXPECT_EQ(error.reason(), "queue_full");
        ++run.refused;
      }
      next += -std::log(1 - random.uniform()) / rate;
    }
    if (!rig.engine.step()) rig.clock.advance_ns(1'000'000);
  }
  for (const SequencePtr& sequence : admitted)
    run.first_token_seconds.push_back(static_cast<double>(sequence->first_token_ns - sequence->submitted_ns) *
                                      1e-9);
  run.seconds = rig.seconds() - start;
  return run;
}

TEST(Admission, TenTimesTheLoadLeavesTheAdmittedAlone) {
  const EngineOptions options{.max_sequences = 8, .prefix_cache = PrefixCache::off};
  Rig closed(options);
  for (int i = 0; i < 200; ++i) {
    while (std::ssize(closed.engine.scheduler().running()) +
               std::ssize(closed.engine.scheduler().waiting()) >=
           8)
      closed.engine.step();
    closed.submit(32, 16);
    closed.engine.step();
  }
  closed.run_until_idle();
  const double peak = 200 / closed.seconds();

  Rig rig(options);
  const LoadRun normal = open_loop(rig, 0.8 * peak, 20, 1);
  const LoadRun crowded = open_loop(rig, 8 * peak, 20, 2);
  const LoadRun after = open_loop(rig, 0.8 * peak, 5, 3);
  EXPECT_LT(normal.refused, normal.sent / 50);
  EXPECT_GT(crowded.refused, crowded.sent / 2);
  EXPECT_LE(crowded.p95(), 2 * normal.p95());
  EXPECT_GE(crowded.per_second(), 0.9 * peak);
  EXPECT_LE(after.p95(), 1.5 * normal.p95());

  EngineOptions by_count = options;  // what the limits on requests alone would do
  by_count.queue_wait_seconds_max = 0;
  Rig long_queue(by_count);
  EXPECT_GT(open_loop(long_queue, 8 * peak, 20, 2).p95(), 4 * normal.p95());
}

}  // namespace
}  // namespace neutrino::engine
