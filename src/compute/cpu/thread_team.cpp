#include "compute/cpu/thread_team.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

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

void ThreadTeam::run(int64_t items, Function fn, void* context) {
  if (workers_.empty() || items <= 1) {
    for (int64_t item = 0; item < items; ++item) fn(context, item, 0);
    return;
  }
  check(items <= INT32_MAX, "too many items for one operation");
  const auto count = static_cast<uint32_t>(items);
  const uint32_t round = round_.load(std::memory_order_relaxed) + 1;
  // A worker may still stand in the last round's take_items(): it must not take an item between what it reads of that round
  // and of this one. So the ticket leaves the old round first: who has read any of the new values fails to exchange it.
  ticket_.store(uint64_t{round} << 32 | UINT32_MAX, std::memory_order_relaxed);
  done_.store(0, std::memory_order_relaxed);
  fn_.store(fn, std::memory_order_release);
  context_.store(context, std::memory_order_release);
  items_.store(count, std::memory_order_release);
  ticket_.store(uint64_t{round} << 32, std::memory_order_release);
  round_.store(round);  // sequentially consistent with sleepers_: see work()
  if (sleepers_.load() > 0) futex(round_, FUTEX_WAKE, INT32_MAX);
  take_items(round, 0);
  for (uint32_t done; (done = done_.load(std::memory_order_acquire)) != count;) {
    if (spin_while(done_, done)) continue;
    caller_sleeps_.store(1);
    if (done_.load() == done) futex(done_, FUTEX_WAIT, done);
    caller_sleeps_.store(0);
  }
}

void ThreadTeam::take_items(uint32_t round, int64_t thread) {
  for (uint64_t ticket = ticket_.load(std::memory_order_acquire); ticket >> 32 == round;) {
    const Function fn = fn_.load(std::memory_order_acquire);
    void* const context = context_.load(std::memory_order_acquire);
    if (static_cast<uint32_t>(ticket) >= items_.load(std::memory_order_acquire)) return;
    if (!ticket_.compare_exchange_weak(ticket, ticket + 1, std::memory_order_acq_rel)) continue;
    fn(context, static_cast<int64_t>(static_cast<uint32_t>(ticket)), thread);
    done_.fetch_add(1);
    if (caller_sleeps_.load()) futex(done_, FUTEX_WAKE, 1);
    ticket = ticket_.load(std::memory_order_acquire);
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
