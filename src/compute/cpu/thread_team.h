// A few threads that start together on one operation after the other.
//
// An operation is a number of items; threads take the next item from a counter, so a thread that the system holds up does
// not hold up the others' work, and one that comes too late finds nothing and holds up nobody. Operations follow each other
// within microseconds, so a thread that has nothing to do spins for up to 50 us before it sleeps in the kernel (two replicas
// on one machine must not hurt each other).
//
// An operation may have phases: an item of one is begun when all items of those before it are done. The threads hand over to
// each other there, without the caller in between.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <thread>
#include <vector>

namespace neutrino::compute::cpu {

class ThreadTeam {
 public:
  // fn(context, item, thread): thread in [0, size()). Must not throw.
  using Function = void (*)(void* context, int64_t item, int64_t thread);

  explicit ThreadTeam(int64_t threads);  // the calling thread is one of them
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  int64_t size() const { return static_cast<int64_t>(workers_.size()) + 1; }

  struct Phase {
    int64_t items = 0;
    Function fn = nullptr;
    void* context = nullptr;
  };
  static constexpr size_t kPhases = 4;  // of one operation, at most

  // Calls f(item, thread); f must last until then.
  template <typename F>
  static Phase phase(int64_t items, F& f) {
    return {items,
            [](void* context, int64_t item, int64_t thread) { (*static_cast<F*>(context))(item, thread); },
            &f};
  }

  // Runs all items and returns when they are done. Where no phase has more than one item, or the team one thread, all run on
  // the caller.
  void run(std::span<const Phase> phases);

  template <typename F>
  void run(int64_t items, F&& f) {
    const Phase only = phase(items, f);
    run({&only, 1});
  }

  // How often the threads were called together.
  int64_t forks() const { return forks_; }

 private:
  // A phase in this round. Who comes late may read one while run() writes the next round's.
  struct SharedPhase {
    std::atomic<Function> fn = nullptr;
    std::atomic<void*> context = nullptr;
    std::atomic<uint32_t> first = 0, end = 0;  // its items, numbered through all phases
  };

  void start(std::span<const Phase> phases);
  void wait_until_done(uint32_t items);
  void work(int64_t thread);
  void take_items(uint32_t round, int64_t thread);

  // What to do in this round. The ticket tells whether it still is: an item is taken only by a compare-exchange that finds
  // the round. Phases that an operation does not have are empty.
  std::array<SharedPhase, kPhases> phases_;
  alignas(64) std::atomic<uint64_t> ticket_ = 0;  // round << 32 | next item
  alignas(64) std::atomic<uint32_t> done_ = 0;    // items of this round
  alignas(64) std::atomic<uint32_t> round_ = 0;   // what idle workers watch
  std::atomic<uint32_t> sleepers_ = 0;            // workers that sleep on round_
  std::atomic<uint32_t> waiters_ = 0;             // threads that sleep on done_
  std::atomic<bool> stop_ = false;
  int64_t forks_ = 0;  // of the calling thread
  std::vector<std::thread> workers_;
};

}  // namespace neutrino::compute::cpu
