// How many replicas an endpoint should have, and why: a pure function of what the gateways saw.
//
// Load is counted in tokens, not in requests or GPU use: a replica that batches is "busy" at any load, and a request may be ten
// tokens or ten thousand. Each signal wants a number of replicas and the largest wins. As in Knative's autoscaler the mean over a long
// (stable) window decides, and a short (panic) window takes over when it wants twice what is ready; nothing shrinks in panic. An
// endpoint without traffic for its idle timeout goes to zero, and one request that is held at the gateway brings it back.
//
// The caller keeps one AutoscalerMemory an endpoint and calls decide() about once a second, from one thread.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/fields.h"

namespace neutrino::cloud {

// A weekly window with bounds of its own, in UTC. Where windows overlap, the largest minimum and the smallest maximum count.
struct ScheduleWindow {
  int64_t days = 0x7F;       // bit 0: Sunday … bit 6: Saturday, of the day on which the window begins
  int64_t begin_minute = 0;  // of the day, [0, 1440)
  int64_t end_minute = 0;    // [0, 1440]; not after begin_minute: it ends on the next day
  std::optional<int64_t> replicas_min;
  std::optional<int64_t> replicas_max;
  static constexpr auto fields() {
    using W = ScheduleWindow;
    return std::tuple(field("days", &W::days, {.help = "a sum of 1 (Sunday), 2, 4 ... 64 (Saturday)"}),
                      field("begin_minute", &W::begin_minute, {.help = "of the day, UTC"}),
                      field("end_minute", &W::end_minute, {.help = "not after the begin: on the next day"}),
                      field("replicas_min", &W::replicas_min), field("replicas_max", &W::replicas_max));
  }
};

struct ScalingPolicy {
  int64_t replicas_min = 0;
  int64_t replicas_max = 1;
  double tokens_per_replica = 4096;  // in flight and queued, that one replica should have; 0: not looked at
  double requests_per_minute = 0;    // a replica; 0: not looked at
  double time_to_first_token_p90_ms = 0;  // to stay below; 0: not looked at
  double inter_token_latency_p90_ms = 0;  // to stay below; 0: not looked at
  int64_t idle_timeout_s = 3600;          // without traffic: to replicas_min 0; 0: never
  int64_t stable_window_s = 60;
  int64_t panic_window_s = 6;
  double panic_threshold = 2;        // times the ready replicas, that the panic window must want
  int64_t scale_down_delay_s = 300;  // a smaller number must have been enough for so long
  int64_t scale_up_factor_max =
      4;  // at most so many times the ready replicas (at least one more) in one decision
  int64_t operator_hold_s =
      300;  // after an operator has set a number by hand, nothing is changed for so long
  std::vector<ScheduleWindow> schedule;
  static constexpr auto fields() {
    using P = ScalingPolicy;
    return std::tuple(
        field("replicas_min", &P::replicas_min), field("replicas_max", &P::replicas_max),
        field("tokens_per_replica", &P::tokens_per_replica,
              {.help = "in flight and queued; 0: not looked at"}),
        field("requests_per_minute", &P::requests_per_minute, {.help = "of a replica; 0: not looked at"}),
        field("time_to_first_token_p90_ms", &P::time_to_first_token_p90_ms,
              {.help = "to stay below; 0: not looked at"}),
        field("inter_token_latency_p90_ms", &P::inter_token_latency_p90_ms,
              {.help = "to stay below; 0: not looked at"}),
        field("idle_timeout_s", &P::idle_timeout_s, {.help = "without traffic, to zero replicas; 0: never"}),
        field("stable_window_s", &P::stable_window_s), field("panic_window_s", &P::panic_window_s),
        field("panic_threshold", &P::panic_threshold), field("scale_down_delay_s", &P::scale_down_delay_s),
        field("scale_up_factor_max", &P::scale_up_factor_max), field("operator_hold_s", &P::operator_hold_s),
        field("schedule", &P::schedule));
  }
};

// What all gateways together saw of an endpoint since the sample before.
struct ScalingSample {
  int64_t at_ms = 0;  // Unix time
  double tokens_in_flight = 0;
  double tokens_queued = 0;  // of requests held at the gateway
  int64_t requests_held = 0;
  int64_t requests_started = 0;                      // that arrived
  std::optional<double> time_to_first_token_p90_ms;  // absent: there was none
  std::optional<double> inter_token_latency_p90_ms;
};

struct ReplicaCounts {
  int64_t ready = 0;
  int64_t loading = 0;  // placed or starting: they count, or a slow start would ask for more each second
};

struct OperatorAction {
  int64_t replicas = 0;
  int64_t at_ms = 0;
};

// What a decision needs of the past. Seconds without load are not kept, so a sleeping endpoint costs nothing here.
struct AutoscalerMemory {
  struct Load {
    int64_t at_ms = 0;
    int64_t span_ms = 0;  // how long the sample stands for
    int64_t ready = 0;    // replicas at its beginning, which is what its latencies were measured on
    ScalingSample sample;
  };
  struct Wanted {
    int64_t at_ms = 0;
    int64_t replicas = 0;
  };
  std::deque<Load> loads;     // of the stable window
  std::deque<Wanted> wanted;  // of the scale-down delay, decreasing: its front is the largest
  int64_t since_ms = 0;       // watched without a gap since then
  int64_t last_ms = 0;        // of the last sample; 0: there was none
  int64_t last_ready = 0;
  int64_t traffic_ms = 0;           // of the last sample with traffic, or when watching began
  std::optional<int64_t> panic_ms;  // when the panic window last wanted that much
  int64_t panic_replicas = 0;       // the most it wanted in this panic
};

struct ScalingDecision {
  int64_t replicas = 0;
  bool panic = false;
  std::string reason;  // one sentence with the figures, for the endpoint's events
};

// Takes in a sample and decides. It is not asked for endpoints that an operator paused. After a clock that went back, or a gap beyond
// the stable window, what was seen before is forgotten: nothing shrinks because of what is not known.
ScalingDecision decide(const ScalingPolicy& policy, AutoscalerMemory& memory, const ScalingSample& sample,
                       ReplicaCounts counts, const std::optional<OperatorAction>& by_hand = {});

// Throws Error{invalid_argument} that names the field, its value and what was expected.
void validate(const ScalingPolicy& policy);

}  // namespace neutrino::cloud
