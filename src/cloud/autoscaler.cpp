#include "cloud/autoscaler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kFirstSpanMs = 1000;  // what the first sample is taken to stand for
constexpr int64_t kDayMinutes = 24 * 60;

struct Bounds {
  int64_t min = 0;
  int64_t max = 0;
};

// What one signal asks for, and the words for it.
struct Want {
  int64_t replicas = 0;
  std::string reason;
};

bool has_traffic(const ScalingSample& sample) {
  return sample.tokens_in_flight > 0 || sample.tokens_queued > 0 || sample.requests_held > 0 ||
         sample.requests_started > 0;
}

// A quotient that is a whole number but for rounding is that number.
int64_t replicas_for(double amount, double per_replica) {
  return static_cast<int64_t>(std::ceil(std::min(amount / per_replica, 1e9) - 1e-9));
}

bool is_open(const ScheduleWindow& window, int64_t now_ms) {
  const int64_t minutes = now_ms / kMinuteMs;
  const int64_t day = minutes / kDayMinutes;
  const int64_t minute = minutes % kDayMinutes;
  const auto begins_on = [&](int64_t d) {
    return (window.days >> ((d + 4) % 7) & 1) != 0;
  };  // 1970 began on a Thursday
  if (window.begin_minute < window.end_minute)
    return begins_on(day) && minute >= window.begin_minute && minute < window.end_minute;
  return (begins_on(day) && minute >= window.begin_minute) ||
         (begins_on(day - 1) && minute < window.end_minute);
}

Bounds bounds_at(const ScalingPolicy& policy, int64_t now_ms) {
  std::optional<int64_t> low, high;
  for (const ScheduleWindow& window : policy.schedule) {
    if (!is_open(window, now_ms)) continue;
    if (window.replicas_min) low = std::max(low.value_or(0), *window.replicas_min);
    if (window.replicas_max) high = std::min(high.value_or(*window.replicas_max), *window.replicas_max);
  }
  Bounds bounds{low.value_or(policy.replicas_min), high.value_or(policy.replicas_max)};
  bounds.max = std::max(bounds.max, bounds.min);
  return bounds;
}

void forget(AutoscalerMemory& memory, int64_t now_ms) {
  memory = {};
  memory.since_ms = now_ms - kFirstSpanMs;
  memory.traffic_ms = now_ms;
}

void take_in(const ScalingPolicy& policy, AutoscalerMemory& memory, const ScalingSample& sample,
             int64_t ready) {
  const int64_t window_ms = policy.stable_window_s * 1000;
  const int64_t span_ms = sample.at_ms - memory.last_ms;
  if (memory.last_ms == 0 || span_ms < 0 || span_ms > window_ms) forget(memory, sample.at_ms);
  if (has_traffic(sample)) {
    memory.traffic_ms = sample.at_ms;
    const bool first = memory.last_ms == 0;
    memory.loads.push_back(
        {sample.at_ms, first ? kFirstSpanMs : span_ms, first ? ready : memory.last_ready, sample});
  }
  memory.last_ms = sample.at_ms;
  memory.last_ready = ready;
  while (!memory.loads.empty() && memory.loads.front().at_ms <= sample.at_ms - window_ms)
    memory.loads.pop_front();
}

// The mean over the last `window_s`, or over what has been watched if that is less. Seconds that were not kept had no load.
template <typename Amount>
double mean(const AutoscalerMemory& memory, int64_t window_s, const Amount& amount) {
  const int64_t begin_ms = memory.last_ms - window_s * 1000;
  double sum = 0;
  for (auto load = memory.loads.rbegin(); load != memory.loads.rend() && load->at_ms > begin_ms; ++load)
    sum += amount(load->sample) * static_cast<double>(load->span_ms);
  const int64_t watched_ms = memory.last_ms - memory.since_ms;
  return sum / static_cast<double>(std::min(window_s * 1000, watched_ms));
}

Want want_for_tokens(const ScalingPolicy& policy, const AutoscalerMemory& memory, int64_t window_s) {
  if (policy.tokens_per_replica <= 0) return {};
  const double tokens =
      mean(memory, window_s, [](const ScalingSample& s) { return s.tokens_in_flight + s.tokens_queued; });
  return {replicas_for(tokens, policy.tokens_per_replica),
          fmt::format("{:.0f} tokens in flight and queued (mean of {} s) at {:.0f} a replica", tokens,
                      window_s, policy.tokens_per_replica)};
}

Want want_for_requests(const ScalingPolicy& policy, const AutoscalerMemory& memory, int64_t window_s) {
  if (policy.requests_per_minute <= 0) return {};
  double arrived = 0;
  for (const auto& load : memory.loads)
    if (load.at_ms > memory.last_ms - window_s * 1000)
      arrived += static_cast<double>(load.sample.requests_started);
  const int64_t watched_ms = std::min(memory.last_ms - memory.since_ms, window_s * 1000);
  const double a_minute = arrived * static_cast<double>(kMinuteMs) / static_cast<double>(watched_ms);
  return {replicas_for(a_minute, policy.requests_per_minute),
          fmt::format("{:.0f} requests a minute at {:.0f} a replica", a_minute, policy.requests_per_minute)};
}

// n replicas that need r times the time they may take should be n * r. Each sample counts with the replicas it was taken on, so that
// those which have come since do not multiply it again.
Want want_for_latency(std::string_view name, double limit_ms, const AutoscalerMemory& memory,
                      std::optional<double> ScalingSample::*latency) {
  if (limit_ms <= 0) return {};
  double latency_sum = 0, replicas_sum = 0, spans = 0;
  for (const auto& load : memory.loads) {
    const auto& value = load.sample.*latency;
    if (!value || load.ready == 0) continue;
    const auto span = static_cast<double>(load.span_ms);
    latency_sum += *value * span;
    replicas_sum += *value * static_cast<double>(load.ready) * span;
    spans += span;
  }
  if (spans == 0) return {};
  return {replicas_for(replicas_sum / spans, limit_ms),
          fmt::format("{} p90 {:.0f} ms against {:.0f} ms", name, latency_sum / spans, limit_ms)};
}

Want largest(std::initializer_list<Want> wants) {
  return *std::max_element(wants.begin(), wants.end(),
                           [](const Want& a, const Want& b) { return a.replicas < b.replicas; });
}

Want stable_want(const ScalingPolicy& policy, const AutoscalerMemory& memory) {
  return largest({want_for_tokens(policy, memory, policy.stable_window_s),
                  want_for_requests(policy, memory, policy.stable_window_s),
                  want_for_latency("time to first token", policy.time_to_first_token_p90_ms, memory,
                                   &ScalingSample::time_to_first_token_p90_ms),
                  want_for_latency("inter-token latency", policy.inter_token_latency_p90_ms, memory,
                                   &ScalingSample::inter_token_latency_p90_ms)});
}

// Enters, prolongs or leaves panic. In panic the number only grows.
bool apply_panic(const ScalingPolicy& policy, AutoscalerMemory& memory, ReplicaCounts counts, Want& want) {
  const Want urgent = largest({want_for_tokens(policy, memory, policy.panic_window_s),
                               want_for_requests(policy, memory, policy.panic_window_s)});
  const double threshold = policy.panic_threshold * static_cast<double>(std::max<int64_t>(counts.ready, 1));
  if (static_cast<double>(urgent.replicas) >= threshold) memory.panic_ms = memory.last_ms;
  if (!memory.panic_ms || memory.last_ms - *memory.panic_ms >= policy.stable_window_s * 1000) {
    memory.panic_ms.reset();
    memory.panic_replicas = 0;
    return false;
  }
  memory.panic_replicas = std::max(memory.panic_replicas, urgent.replicas);
  if (urgent.replicas > want.replicas) want = urgent;
  const int64_t floor = std::max(memory.panic_replicas, counts.ready + counts.loading);
  if (floor > want.replicas) want = {floor, "nothing shrinks in panic"};
  return true;
}

// A smaller number counts only when no larger one was wanted during the delay, and the endpoint was watched for all of it.
void delay_scale_down(const ScalingPolicy& policy, AutoscalerMemory& memory, int64_t total, Want& want) {
  const int64_t now_ms = memory.last_ms;
  const int64_t begin_ms = now_ms - policy.scale_down_delay_s * 1000;
  while (!memory.wanted.empty() && memory.wanted.back().replicas <= want.replicas) memory.wanted.pop_back();
  memory.wanted.push_back({now_ms, want.replicas});
  while (memory.wanted.front().at_ms <= begin_ms && memory.wanted.size() > 1) memory.wanted.pop_front();
  if (want.replicas >= total) return;
  const bool watched = memory.since_ms <= begin_ms;
  const int64_t floor = watched ? std::min(total, memory.wanted.front().replicas) : total;
  if (floor > want.replicas)
    want = {floor, fmt::format("{} would do, less for {} s is waited for", want.replicas,
                               policy.scale_down_delay_s)};
}

void limit_growth(const ScalingPolicy& policy, ReplicaCounts counts, Want& want) {
  const int64_t total = counts.ready + counts.loading;
  const int64_t most = std::max(total, std::max<int64_t>(counts.ready, 1) * policy.scale_up_factor_max);
  if (want.replicas <= most) return;
  want.reason += fmt::format("; {} at once at most", most);
  want.replicas = most;
}

void clamp_to(const Bounds& bounds, Want& want) {
  if (want.replicas < bounds.min) want = {bounds.min, fmt::format("at least {}", bounds.min)};
  if (want.replicas > bounds.max) {
    want.reason += fmt::format("; at most {}", bounds.max);
    want.replicas = bounds.max;
  }
}

// Between the first request and the idle timeout's end there is one replica at least.
bool is_awake(const ScalingPolicy& policy, const AutoscalerMemory& memory, const ScalingSample& sample,
              int64_t total) {
  if (has_traffic(sample)) return true;
  if (total == 0) return false;
  return policy.idle_timeout_s == 0 || memory.last_ms - memory.traffic_ms < policy.idle_timeout_s * 1000;
}

void require(bool good, std::string_view field, const auto& value, std::string_view expected) {
  if (!good)
    throw make_error(ErrorCode::invalid_argument, "{} must be {}, got {}", field, expected, value)
        .with_param(std::string(field));
}

void validate_window(const ScheduleWindow& window, int64_t index) {
  const auto name = [&](std::string_view field) { return fmt::format("schedule[{}].{}", index, field); };
  require(window.days > 0 && window.days < 128, name("days"), window.days, "at least one of seven days");
  require(window.begin_minute >= 0 && window.begin_minute < kDayMinutes, name("begin_minute"),
          window.begin_minute, "0 to 1439");
  require(window.end_minute >= 0 && window.end_minute <= kDayMinutes, name("end_minute"), window.end_minute,
          "0 to 1440");
  require(window.replicas_min || window.replicas_max, name("replicas_min"), "nothing",
          "given, or replicas_max: a window changes a bound");
  require(window.replicas_min.value_or(0) >= 0, name("replicas_min"), window.replicas_min.value_or(0),
          "0 or more");
  require(window.replicas_max.value_or(0) >= window.replicas_min.value_or(0) || !window.replicas_max,
          name("replicas_max"), window.replicas_max.value_or(0), "replicas_min or more");
}

}  // namespace

ScalingDecision decide(const ScalingPolicy& policy, AutoscalerMemory& memory, const ScalingSample& sample,
                       ReplicaCounts counts, const std::optional<OperatorAction>& by_hand) {
  take_in(policy, memory, sample, counts.ready);
  if (by_hand && sample.at_ms - by_hand->at_ms < policy.operator_hold_s * 1000 &&
      sample.at_ms >= by_hand->at_ms)
    return {
        by_hand->replicas, false,
        fmt::format("set to {} by hand {} s ago", by_hand->replicas, (sample.at_ms - by_hand->at_ms) / 1000)};

  const int64_t total = counts.ready + counts.loading;
  const Bounds bounds = bounds_at(policy, sample.at_ms);
  if (!is_awake(policy, memory, sample, total)) {
    memory.wanted.clear();
    memory.panic_ms.reset();
    memory.panic_replicas = 0;
    Want asleep{0, total == 0 ? "asleep, no request waits"
                              : fmt::format("no traffic for {} s", policy.idle_timeout_s)};
    clamp_to(bounds, asleep);
    return {asleep.replicas, false, asleep.reason};
  }
  Want want = stable_want(policy, memory);
  const bool panic = apply_panic(policy, memory, counts, want);
  if (want.replicas < 1)
    want = {1, has_traffic(sample) ? "there is traffic" : "idle, but not for long enough"};
  delay_scale_down(policy, memory, total, want);
  limit_growth(policy, counts, want);
  clamp_to(bounds, want);
  return {want.replicas, panic, want.reason};
}

void validate(const ScalingPolicy& policy) {
  require(policy.replicas_min >= 0, "replicas_min", policy.replicas_min, "0 or more");
  require(policy.replicas_max >= policy.replicas_min, "replicas_max", policy.replicas_max,
          "replicas_min or more");
  require(policy.tokens_per_replica >= 0, "tokens_per_replica", policy.tokens_per_replica, "0 or more");
  require(policy.requests_per_minute >= 0, "requests_per_minute", policy.requests_per_minute, "0 or more");
  require(policy.time_to_first_token_p90_ms >= 0, "time_to_first_token_p90_ms",
          policy.time_to_first_token_p90_ms, "0 or more");
  require(policy.inter_token_latency_p90_ms >= 0, "inter_token_latency_p90_ms",
          policy.inter_token_latency_p90_ms, "0 or more");
  require(policy.idle_timeout_s >= 0, "idle_timeout_s", policy.idle_timeout_s, "0 or more");
  require(policy.panic_window_s >= 1, "panic_window_s", policy.panic_window_s, "1 or more");
  require(policy.stable_window_s >= policy.panic_window_s && policy.stable_window_s <= 3600,
          "stable_window_s", policy.stable_window_s, "panic_window_s to 3600");
  require(policy.panic_threshold > 1, "panic_threshold", policy.panic_threshold, "more than 1");
  require(policy.scale_down_delay_s >= 0, "scale_down_delay_s", policy.scale_down_delay_s, "0 or more");
  require(policy.scale_up_factor_max >= 2, "scale_up_factor_max", policy.scale_up_factor_max, "2 or more");
  require(policy.operator_hold_s >= 0, "operator_hold_s", policy.operator_hold_s, "0 or more");
  for (size_t i = 0; i < policy.schedule.size(); ++i)
    validate_window(policy.schedule[i], static_cast<int64_t>(i));
}

}  // namespace neutrino::cloud
