#include "compute/cpu/thread_team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "compute/arithmetic.h"

namespace neutrino::compute::cpu {
namespace {

using SteadyClock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(50);

void futex(std::atomic<uint32_t>& word, int operation, uint32_t value) {
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t));
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), operation | FUTEX_PRIVATE_FLAG, value, nullptr,
          nullptr, 0);
}

// Spins until `word` differs from `value`; false after kSpin.
bool spin_while(const std::atomic<uint32_t>& word, uint32_t value) {
  const auto end = SteadyClock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      if (word.load(std::memory_order_acquire) != value) return true;
      __builtin_ia32_pause();
    }
  } while (SteadyClock::now() < end);
  return false;
}

}  // namespace

ThreadTeam::ThreadTeam(int64_t threads) {
  check(threads >= 1, "a thread team has at least one thread");
  workers_.reserve(static_cast<size_t>(threads - 1));
  for (int64_t thread = 1; thread < threads; ++thread)
    workers_.emplace_back([this, thread] { work(thread); });
}

ThreadTeam::~ThreadTeam() {
  stop_ = true;
  round_.fetch_add(1);
  futex(round_, FUTEX_WAKE, INT32_MAX);
  for (std::thread& worker : workers_) worker.join();
}

void ThreadTeam::run(std::span<const Phase> phases) {
  check(phases.size() <= kPhases, "too many phases for one operation");
  int64_t items = 0, longest = 0;
  for (const Phase& phase : phases) items += phase.items, longest = std::max(longest, phase.items);
  if (workers_.empty() || longest <= 1) {
    for (const Phase& phase : phases)
      for (int64_t item = 0; item < phase.items; ++item) phase.fn(phase.context, item, 0);
    return;
  }
  check(items <= INT32_MAX, "too many items for one operation");
  ++forks_;
  start(phases);
  take_items(round_.load(std::memory_order_relaxed), 0);
  wait_until_done(static_cast<uint32_t>(items));
}

// A worker may still stand in the last round's take_items(): it must not take an item between what it reads of that round
// and of this one. So the ticket leaves the old round first: who has read any of the new values fails to exchange it.
void ThreadTeam::start(std::span<const Phase> phases) {
  const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  ticket_.store(uint64_t{round} << 32 | UINT32_MAX, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  uint32_t end = 0;
  for (size_t i = 0; i < kPhases; ++i) {
    const Phase phase = i < phases.size() ? phases[i] : Phase{};
    phases_[i].fn.store(phase.fn, std::memory_order_release);
    phases_[i].context.store(phase.context, std::memory_order_release);
    phases_[i].first.store(end, std::memory_order_release);
    phases_[i].end.store(end += static_cast<uint32_t>(phase.items), std::memory_order_release);
  }
  ticket_.store(uint64_t{round} << 32, std::memory_order_release);
  round_.store(round);  // sequentially consistent with sleepers_: see work()
  if (sleepers_.load() > 0) futex(round_, FUTEX_WAKE, INT32_MAX);
}

// Items are taken in order, so those of an earlier phase are in work when one of a later phase is taken: it waits, but not
// for nothing.
void ThreadTeam::take_items(uint32_t round, int64_t thread) {
  for (uint64_t ticket = ticket_.load(std::memory_order_acquire); ticket >> 32 == round;) {
    const auto item = static_cast<uint32_t>(ticket);
    size_t p = 0;
    while (p < kPhases && item >= phases_[p].end.load(std::memory_order_acquire)) ++p;
    if (p == kPhases) return;
    const Function fn = phases_[p].fn.load(std::memory_order_acquire);
    void* const context = phases_[p].context.load(std::memory_order_acquire);
    const uint32_t first = phases_[p].first.load(std::memory_order_acquire);
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
    if (first > 0) wait_until_done(first);
    fn(context, static_cast<int64_t>(item - first), thread);
    done_.fetch_add(1);
    if (waiters_.load() > 0) futex(done_, FUTEX_WAKE, INT32_MAX);
    ticket = ticket_.load(std::memory_order_acquire);
  }
}

// A waiter counts itself before it looks at done_ a last time (inside FUTEX_WAIT), and done_ is raised before the waiters are
// looked at: one of the two sees the other.
void ThreadTeam::wait_until_done(uint32_t items) {
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) < items;) {
    if (spin_while(done_, done)) continue;
    waiters_.fetch_add(1);
    if (done_.load() == done) futex(done_, FUTEX_WAIT, done);
    waiters_.fetch_sub(1);
  }
}

// A worker counts itself as a sleeper before it looks at round_ a last time (inside FUTEX_WAIT), and run() raises round_
// before it looks at the sleepers: one of the two sees the other.
void ThreadTeam::work(int64_t thread) {
  pthread_setname_np(pthread_self(), "compute");
  set_float_mode();
  for (uint32_t seen = 0;;) {
    if (!spin_while(round_, seen)) {
      sleepers_.fetch_add(1);
      while (round_.load() == seen) futex(round_, FUTEX_WAIT, seen);
      sleepers_.fetch_sub(1);
    }
    if (stop_) return;
    seen = round_.load(std::memory_order_acquire);
    take_items(seen, thread);
  }
}

}  // namespace neutrino::compute::cpu
