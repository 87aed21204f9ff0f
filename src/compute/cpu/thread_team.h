// A few threads that start together on one operation after the other.
//
// An operation is a number of items; threads take the next item from a counter, so a thread that the system holds up does
// not hold up the others' work, and one that comes too late finds nothing and holds up nobody. Operations follow each other within microseconds, so a thread that has nothing to do spins
// for up to 50 us before it sleeps in the kernel (two replicas on one machine must not hurt each other).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
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

  // Runs all items and returns when they are done. One item, or one thread, runs on the caller.
  void run(int64_t items, Function fn, void* context);

  template <typename F>
  void run(int64_t items, F&& fn) {
    run(
        items, [](void* context, int64_t item, int64_t thread) { (*static_cast<F*>(context))(item, thread); },
        &fn);
  }

 private:
  void work(int64_t thread);
  void take_items(uint32_t round, int64_t thread);

  // What to do in this round. A worker that comes late may read these while run() writes the next round's; the ticket
  // tells: an item is taken only by a compare-exchange that still finds the round.
  std::atomic<Function> fn_ = nullptr;
  std::atomic<void*> context_ = nullptr;
  std::atomic<uint32_t> items_ = 0;
  alignas(64) std::atomic<uint64_t> ticket_ = 0;  // round << 32 | next item
  alignas(64) std::atomic<uint32_t> done_ = 0;    // items of this round
  alignas(64) std::atomic<uint32_t> round_ = 0;   // what idle workers watch
  std::atomic<uint32_t> sleepers_ = 0;            // workers that sleep on round_
  std::atomic<uint32_t> caller_sleeps_ = 0;       // on done_
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> workers_;
};

}  // namespace neutrino::compute::cpu
