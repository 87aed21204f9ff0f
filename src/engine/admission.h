// Who may join the queue: bounded by requests, by prompt tokens, and by how long a newcomer would wait for its first step.
//
// A queue that only ever grows helps nobody: each request in it is late, and no more of them are served. So a request is let in
// when the wait that it can expect is short, and is otherwise told at once when to come back. The wait is estimated from what the
// engine measures: how long a step takes, how many prompt rows a second are computed, how many tokens a sequence generates, and
// how far the running ones are.
//
// How long is short? A burst may fill an empty queue until the last one waits for three quarters of a generation (kBurstSecondsMin
// at least). A queue that stands for longer than kStandingSeconds, or more than kCrowdedShare of the requests refused, is no burst but
// overload: then nobody is let in who would wait longer than one and a half times what it takes to compute a first token (kWaitSecondsMin
// at least), so that slots do not stay empty and the time to the first token stays near that of a server with an empty queue.
// `wait_seconds_max` sets one bound in place of both. Before anything was measured only the limits on requests and tokens hold.
//
// Requests of a lower priority value go first, so only those before a newcomer count for its wait.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "engine/engine_metrics.h"
#include "engine/sequence.h"

namespace neutrino::engine {

inline constexpr double kBurstSecondsMin = 0.5;
inline constexpr double kBurstGenerations = 0.75;
inline constexpr double kStandingSeconds = 1.0;
inline constexpr double kCrowdedShare = 0.25;
inline constexpr double kCrowdedFirstTokens = 1.5;
inline constexpr double kWaitSecondsMin = 0.02;
inline constexpr double kPauseSeconds =
    1.0;  // without a request: what was refused before says nothing any more

struct AdmissionOptions {
  int64_t max_sequences = 0;
  int64_t requests_max = 0, tokens_max = 0;     // in the queue; a lone request may have more tokens
  std::optional<double> wait_seconds_max = {};  // 0: any wait; absent: as above
};

// What the engine saw in a step that computed something.
struct StepSeen {
  int64_t prompt_rows = 0, decoding_rows = 0;
  double seconds = 0;
};

class Admission {
 public:
  // All references outlive this object.
  Admission(const AdmissionOptions& options, EngineMetrics& metrics, const Clock& clock);

  // ---- any thread

  // One more in the queue. Throws Error{resource_exhausted} with reason "queue_full", or "deadline_unreachable" when the wait is
  // longer than `timeout_ms` (0: none).
  void reserve(int64_t priority, int64_t prompt_tokens, int64_t timeout_ms);
  void release(int64_t priority, int64_t prompt_tokens);
  // Throws what reserve() would throw for the shortest of prompts of priority 0.
  void check_now() const;
  int64_t queued() const;
  double expected_wait_seconds(int64_t priority = 0) const;  // of a request that came now

  // ---- engine thread

  void saw_step(const StepSeen& step);
  void saw_first_token(double seconds_since_scheduled);
  void saw_end(int64_t generated, double seconds_since_scheduled);
  // After each step: who runs now. `short_of_blocks`: the queue's head waits for KV blocks.
  void show(std::span<const SequencePtr> running, bool short_of_blocks);

 private:
  struct Share {
    int64_t requests = 0, tokens = 0;
  };
  // The rest of them: with the mutex.
  void check_limits(int64_t prompt_tokens) const;
  void check_wait(int64_t priority, int64_t timeout_ms) const;
  Share ahead_of(int64_t priority) const;
  double wait_behind(Share ahead) const;
  double slot_wait(int64_t ahead) const;
  double bound() const;
  void note(bool refused) const;
  int64_t expected_tokens(const Sequence& sequence) const;

  const AdmissionOptions options_;
  EngineMetrics& metrics_;
  const Clock& clock_;

  mutable std::mutex mutex_;         // guards all below
  std::map<int64_t, Share> queued_;  // by priority
  Share total_;
  std::vector<double> free_in_;       // seconds until a slot of a running sequence is free, in order
  int64_t slots_ = 0;                 // sequences that can run side by side now
  int64_t prompt_backlog_ = 0;        // tokens of running sequences' prompts that are not computed
  int64_t empty_ns_ = 0;              // when the queue was empty last, if it is not now
  mutable double refused_share_ = 0;  // of the last requests
  mutable int64_t noted_ns_ = 0;

  // Running means; 0: nothing measured.
  double step_seconds_ = 0, prompt_row_seconds_ = 0;
  double first_token_seconds_ = 0, sequence_seconds_ = 0, sequence_tokens_ = 0;
};

}  // namespace neutrino::engine
