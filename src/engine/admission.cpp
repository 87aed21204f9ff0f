#include "engine/admission.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "engine/prompt_pace.h"

namespace neutrino::engine {
namespace {

void mix_in(double& mean, double value, double share) {
  mean = mean == 0 ? value : (1 - share) * mean + share * value;
}

}  // namespace

Admission::Admission(const AdmissionOptions& options, EngineMetrics& metrics, const Clock& clock)
    : options_(options),
      metrics_(metrics),
      clock_(clock),
      slots_(options.max_sequences),
      empty_ns_(clock.now_ns()) {
  free_in_.reserve(static_cast<size_t>(options.max_sequences));
}

// ---- any thread

void Admission::reserve(int64_t priority, int64_t prompt_tokens, int64_t timeout_ms) {
  const std::lock_guard lock(mutex_);
  check_limits(prompt_tokens);
  check_wait(priority, timeout_ms);
  note(false);
  if (total_.requests == 0) empty_ns_ = clock_.now_ns();
  Share& share = queued_[priority];
  ++share.requests, ++total_.requests;
  share.tokens += prompt_tokens, total_.tokens += prompt_tokens;
}

void Admission::release(int64_t priority, int64_t prompt_tokens) {
  const std::lock_guard lock(mutex_);
  const auto found = queued_.find(priority);
  check(found != queued_.end(), "released a place in the queue that nobody had");
  --total_.requests, total_.tokens -= prompt_tokens;
  found->second.tokens -= prompt_tokens;
  if (--found->second.requests == 0) queued_.erase(found);
}

void Admission::check_now() const {
  const std::lock_guard lock(mutex_);
  check_limits(1);
  check_wait(0, 0);
}

int64_t Admission::queued() const {
  const std::lock_guard lock(mutex_);
  return total_.requests;
}

double Admission::expected_wait_seconds(int64_t priority) const {
  const std::lock_guard lock(mutex_);
  return wait_behind(ahead_of(priority));
}

void Admission::check_limits(int64_t prompt_tokens) const {
  const auto refuse = [this](Counter& counter, const char* what, int64_t value, int64_t most) {
    counter.Increment();
    note(true);
    return make_error(ErrorCode::resource_exhausted, "the queue is full: {} {}, at most {}", value, what,
                      most)
        .with_reason("queue_full");
  };
  if (total_.requests >= options_.requests_max)
    throw refuse(metrics_.rejected_requests, "requests", total_.requests + 1, options_.requests_max);
  const int64_t tokens = total_.tokens + prompt_tokens;
  if (tokens > options_.tokens_max && total_.tokens > 0)
    throw refuse(metrics_.rejected_tokens, "prompt tokens", tokens, options_.tokens_max);
}

void Admission::check_wait(int64_t priority, int64_t timeout_ms) const {
  const double wait = wait_behind(ahead_of(priority));
  if (timeout_ms > 0 && wait * 1000 > static_cast<double>(timeout_ms)) {
    metrics_.rejected_deadline.Increment();
    throw make_error(ErrorCode::resource_exhausted,
                     "the request would wait for about {:.2f} s, which is longer than its timeout of {} ms",
                     wait, timeout_ms)
        .with_reason("deadline_unreachable");
  }
  const double most = bound();
  if (wait <= most) return;
  note(true);
  metrics_.rejected_wait.Increment();
  throw make_error(ErrorCode::resource_exhausted,
                   "the queue is full: a request would wait for about {:.2f} s, at most {:.2f} s are allowed",
                   wait, most)
      .with_reason("queue_full");
}

Admission::Share Admission::ahead_of(int64_t priority) const {
  Share ahead;
  for (auto share = queued_.begin(); share != queued_.end() && share->first <= priority; ++share) {
    ahead.requests += share->second.requests;
    ahead.tokens += share->second.tokens;
  }
  return ahead;
}

// A newcomer starts when a slot is free for it, and when the prompts before it are computed.
double Admission::wait_behind(Share ahead) const {
  const double prompts = static_cast<double>(prompt_backlog_ + ahead.tokens) * prompt_row_seconds_;
  return std::max(slot_wait(ahead.requests), prompts);
}

double Admission::slot_wait(int64_t ahead) const {
  const int64_t running = std::ssize(free_in_);
  const int64_t ends = running + ahead + 1 - slots_;  // so many sequences must end before
  if (ends <= 0 || running == 0) return 0;
  const double rounds = static_cast<double>((ends - 1) / running);
  return rounds * sequence_tokens_ * step_seconds_ + free_in_[static_cast<size_t>((ends - 1) % running)];
}

double Admission::bound() const {
  if (options_.wait_seconds_max)
    return *options_.wait_seconds_max > 0 ? *options_.wait_seconds_max
                                          : std::numeric_limits<double>::infinity();
  const double burst = std::max(kBurstSecondsMin, kBurstGenerations * sequence_seconds_);
  const double queued_for = static_cast<double>(clock_.now_ns() - empty_ns_) * 1e-9;
  const bool standing = total_.requests > 0 && queued_for > kStandingSeconds;
  const bool crowded = standing || refused_share_ > kCrowdedShare;
  return crowded ? std::max(kWaitSecondsMin, kCrowdedFirstTokens * first_token_seconds_) : burst;
}

// What became of a request. After a pause nothing is known about the load.
void Admission::note(bool refused) const {
  const int64_t now_ns = clock_.now_ns();
  if (static_cast<double>(now_ns - noted_ns_) * 1e-9 > kPauseSeconds) refused_share_ = 0;
  noted_ns_ = now_ns;
  refused_share_ += 0.05 * ((refused ? 1.0 : 0.0) - refused_share_);
}

// ---- engine thread

void Admission::saw_step(const StepSeen& step) {
  const std::lock_guard lock(mutex_);
  if (step.decoding_rows > 0) mix_in(step_seconds_, step.seconds, 0.1);
  if (step.prompt_rows >= kPromptRowsMin)
    mix_in(prompt_row_seconds_, step.seconds / static_cast<double>(step.prompt_rows), 0.1);
}

void Admission::saw_first_token(double seconds_since_scheduled) {
  const std::lock_guard lock(mutex_);
  mix_in(first_token_seconds_, seconds_since_scheduled, 0.05);
}

void Admission::saw_end(int64_t generated, double seconds_since_scheduled) {
  const std::lock_guard lock(mutex_);
  mix_in(sequence_tokens_, static_cast<double>(generated), 0.1);
  mix_in(sequence_seconds_, seconds_since_scheduled, 0.1);
}

void Admission::show(std::span<const SequencePtr> running, bool short_of_blocks) {
  const std::lock_guard lock(mutex_);
  slots_ = short_of_blocks ? std::ssize(running) : options_.max_sequences;
  prompt_backlog_ = 0;
  free_in_.clear();
  for (const SequencePtr& sequence : running) {
    prompt_backlog_ += std::max<int64_t>(0, sequence->uncomputed() - 1);
    free_in_.push_back(static_cast<double>(expected_tokens(*sequence)) * step_seconds_);
  }
  std::ranges::sort(free_in_);
}

// How many more a sequence will generate: most end before max_tokens, as others did.
int64_t Admission::expected_tokens(const Sequence& sequence) const {
  const int64_t most = sequence.sampling.max_tokens - sequence.generated();
  const int64_t usual = static_cast<int64_t>(sequence_tokens_) - sequence.generated();
  const int64_t longer = sequence.generated() / 2;  // it has outlived the usual already
  return sequence_tokens_ == 0 ? most
                               : std::clamp<int64_t>(std::max(usual, longer), 0, std::max<int64_t>(most, 0));
}

}  // namespace neutrino::engine
