// From answers to probes to what should be done: has a replica started, can it serve now, must it be ended? And from ends to when
// the next start may be. Both are pure: time comes in as a number, and what comes out depends on nothing else (prober.h asks).
//
// Start-up, readiness and liveness are Kubernetes' three: until the first success of the start-up probe nothing else is asked, and a slow
// start is no failure; a replica that is not ready gets no requests and is left alone; one that fails its liveness probes is ended.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "cloud/provider.h"

namespace neutrino::cloud {

enum class ProbeKind { startup, readiness, liveness };

struct ProbeTiming {
  std::string
      path;  // asked with GET; 200-399 is a success. Empty: not asked (start-up, readiness: as if it had succeeded)
  int64_t period_ms = 1000;  // from one question to the next
  int64_t timeout_ms = 1000;
  int64_t failures = 3;   // so many in a row turn it
  int64_t successes = 1;  // likewise, back
};

struct ProbePlan {
  ProbeTiming startup{
      .path = "/v1/health/ready", .period_ms = 50, .timeout_ms = 1000};  // wakes from zero wait for it
  ProbeTiming readiness{.path = "/v1/health/ready", .period_ms = 1000, .timeout_ms = 2000, .failures = 2};
  // A busy machine is no reason to end a replica, and one that hangs ends itself (base/watchdog.h).
  ProbeTiming liveness{.path = "/v1/health/live", .period_ms = 10'000, .timeout_ms = 5000, .failures = 6};
  int64_t startup_deadline_ms = 600'000;
};

struct ProbeVerdict {
  bool started = false;
  bool ready = false;
  bool failed = false;  // it should be ended; nothing changes any more
  Reason reason = Reason::in_progress;
  std::string message;
  bool operator==(const ProbeVerdict&) const = default;
};

enum class ProbeResult { success, failure };

class ProbeTracker {
 public:
  ProbeTracker(ProbePlan plan, int64_t now_ms);

  struct Question {
    ProbeKind kind = ProbeKind::startup;
    int64_t at_ms = 0;
  };
  std::optional<Question> next() const;  // nothing: no more questions
  const ProbeTiming& timing(ProbeKind kind) const;

  // An answer, or what stood in its way (`detail`, for the message). One that came much later than its timeout says that who asked
  // was held up, not who was asked: it counts for nothing. True if the verdict changed.
  bool take(ProbeKind kind, int64_t asked_ms, int64_t now_ms, ProbeResult result, const std::string& detail);
  const ProbeVerdict& verdict() const { return verdict_; }

 private:
  struct Count {
    int64_t next_ms = 0, failures = 0, successes = 0;
  };
  Count& count(ProbeKind kind) { return counts_[static_cast<int>(kind)]; }
  void begin_serving(int64_t now_ms);
  void judge(ProbeKind kind, int64_t now_ms, const std::string& detail);

  ProbePlan plan_;
  int64_t begin_ms_;
  Count counts_[3];
  ProbeVerdict verdict_;
};

// ---- starts after ends

struct RestartPolicy {
  int64_t free_restarts = 1;  // that do not wait
  int64_t delay_ms = 1000;    // before the next one, doubled each time
  int64_t delay_max_ms = 300'000;
  int64_t healthy_ms = 600'000;  // a run of this length forgets what was before
};

struct RestartDecision {
  int64_t failures = 0;                 // in a row; to be kept for the next call
  int64_t delay_ms = 0;                 // from the end
  Reason reason = Reason::in_progress;  // back_off if it has to wait
  std::string message;
};

// A run of `ran_ms` ended by itself for `ended`, after `failures` earlier ones. What is wrongly described (config_error) waits longest at
// once: it does not heal by itself. For what was stopped on purpose nobody asks.
RestartDecision decide_restart(const RestartPolicy& policy, int64_t failures, int64_t ran_ms, Reason ended);

}  // namespace neutrino::cloud
