// A bounded queue from many threads to one.
//
// Storage is made once; pushing moves into it, draining moves out, and neither allocates. A closed mailbox takes nothing more,
// and what is inside can still be drained, so that no message is lost between "closed" and "empty".
#pragma once

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace neutrino {

enum class PushResult { accepted, full, closed };

template <typename T>
class Mailbox {
 public:
  explicit Mailbox(size_t capacity) : items_(capacity) {}

  PushResult push(T item) {
    {
      const std::lock_guard lock(mutex_);
      if (closed_) return PushResult::closed;
      if (size_ == items_.size()) return PushResult::full;
      items_[(first_ + size_) % items_.size()] = std::move(item);
      ++size_;
    }
    changed_.notify_one();
    return PushResult::accepted;
  }

  // Hands each waiting item to `take`, in order of arrival. The receiving thread only.
  template <typename Take>
  void drain(Take take) {
    const std::lock_guard lock(mutex_);
    for (; size_ > 0; --size_) {
      take(std::exchange(items_[first_], T{}));
      first_ = (first_ + 1) % items_.size();
    }
  }

  // Returns when there is something to drain, after wake() or close(), or when the time is over.
  void wait_for(std::chrono::nanoseconds time) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, time, [this] { return size_ > 0 || woken_ || closed_; });
    woken_ = false;
  }

  void wake() {
    {
      const std::lock_guard lock(mutex_);
      woken_ = true;
    }
    changed_.notify_one();
  }

  void close() {
    {
      const std::lock_guard lock(mutex_);
      closed_ = true;
    }
    changed_.notify_one();
  }

 private:
  std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  std::vector<T> items_;  // a ring
  size_t first_ = 0, size_ = 0;
  bool woken_ = false, closed_ = false;
};

}  // namespace neutrino
