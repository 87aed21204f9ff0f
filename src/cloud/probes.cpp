#include "cloud/probes.h"

#include <algorithm>

#include "base/error.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kHeldUpMilliseconds = 1000;  // beyond the timeout: the asker itself did not run

std::string_view kind_name(ProbeKind kind) {
  switch (kind) {
    case ProbeKind::startup: return "start-up";
    case ProbeKind::readiness: return "readiness";
    case ProbeKind::liveness: return "liveness";
  }
  return {};
}

}  // namespace

ProbeTracker::ProbeTracker(ProbePlan plan, int64_t now_ms) : plan_(std::move(plan)), begin_ms_(now_ms) {
  count(ProbeKind::startup).next_ms = now_ms;
  verdict_.message = "waits for its first answer";
  if (plan_.startup.path.empty()) begin_serving(now_ms);
}

const ProbeTiming& ProbeTracker::timing(ProbeKind kind) const {
  if (kind == ProbeKind::startup) return plan_.startup;
  return kind == ProbeKind::readiness ? plan_.readiness : plan_.liveness;
}

std::optional<ProbeTracker::Question> ProbeTracker::next() const {
  if (verdict_.failed) return std::nullopt;
  if (!verdict_.started) return Question{.kind = ProbeKind::startup, .at_ms = counts_[0].next_ms};
  std::optional<Question> first;
  for (const ProbeKind kind : {ProbeKind::readiness, ProbeKind::liveness}) {
    const int64_t at_ms = counts_[static_cast<int>(kind)].next_ms;
    if (!timing(kind).path.empty() && (!first || at_ms < first->at_ms))
      first = Question{.kind = kind, .at_ms = at_ms};
  }
  return first;
}

bool ProbeTracker::take(ProbeKind kind, int64_t asked_ms, int64_t now_ms, ProbeResult result,
                        const std::string& detail) {
  if (verdict_.failed || (kind == ProbeKind::startup) == verdict_.started) return false;
  Count& state = count(kind);
  state.next_ms = std::max(asked_ms + timing(kind).period_ms, now_ms);
  if (result == ProbeResult::failure && now_ms - asked_ms > timing(kind).timeout_ms + kHeldUpMilliseconds)
    return false;
  const bool success = result == ProbeResult::success;
  state.successes = success ? state.successes + 1 : 0;
  state.failures = success ? 0 : state.failures + 1;
  const ProbeVerdict before = verdict_;
  judge(kind, now_ms, detail);
  return verdict_ != before;
}

void ProbeTracker::judge(ProbeKind kind, int64_t now_ms, const std::string& detail) {
  const Count& state = count(kind);
  const bool good = state.successes >= timing(kind).successes, bad = state.failures >= timing(kind).failures;
  if (kind == ProbeKind::startup) {
    if (good) return begin_serving(now_ms);
    if (now_ms - begin_ms_ < plan_.startup_deadline_ms || state.failures == 0) return;
    verdict_ = {
        .failed = true,
        .reason = Reason::startup_timeout,
        .message = fmt::format("did not start within {} s: {}", plan_.startup_deadline_ms / 1000, detail)};
  } else if (kind == ProbeKind::readiness && good) {
    verdict_ = {.started = true, .ready = true, .reason = Reason::ready};
  } else if (kind == ProbeKind::readiness && bad && verdict_.ready) {
    verdict_ = {.started = true, .reason = Reason::not_ready, .message = detail};
  } else if (kind == ProbeKind::liveness && bad) {
    verdict_ = {
        .started = true,
        .failed = true,
        .reason = Reason::liveness_failed,
        .message = fmt::format("{} {} probes in a row failed: {}", state.failures, kind_name(kind), detail)};
  }
}

// The start-up probe's success counts as the first of the readiness probe, which usually asks the same.
void ProbeTracker::begin_serving(int64_t now_ms) {
  verdict_ = {.started = true, .ready = true, .reason = Reason::ready};
  for (const ProbeKind kind : {ProbeKind::readiness, ProbeKind::liveness})
    count(kind).next_ms = now_ms + timing(kind).period_ms;
}

RestartDecision decide_restart(const RestartPolicy& policy, int64_t failures, int64_t ran_ms, Reason ended) {
  RestartDecision decision;
  decision.failures = (ran_ms >= policy.healthy_ms ? 0 : failures) + 1;
  const int64_t waits =
      decision.failures - policy.free_restarts;  // how many of them had to wait, with this one
  if (waits > 0) {
    decision.delay_ms = policy.delay_ms;
    for (int64_t i = 1; i < waits && decision.delay_ms < policy.delay_max_ms; ++i) decision.delay_ms *= 2;
  }
  if (ended == Reason::config_error) decision.delay_ms = policy.delay_max_ms;
  decision.delay_ms = std::min(decision.delay_ms, policy.delay_max_ms);
  if (decision.delay_ms == 0) return decision;
  decision.reason = Reason::back_off;
  decision.message =
      fmt::format("starts again {:.1f} s after its end ({}), for it ended {} times in a row",
                  static_cast<double>(decision.delay_ms) / 1000, reason_name(ended), decision.failures);
  return decision;
}

}  // namespace neutrino::cloud
