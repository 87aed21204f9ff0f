#include "cloud/api/watch.h"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>

#include <mutex>
#include <optional>
#include <set>

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {

struct Watchers::Shared {
  std::mutex mutex;  // guards the next two
  int64_t last = 0;
  std::optional<asio::any_io_executor> executor;  // of those that wait; absent while nobody ever did
  std::set<net::Signal*> waiting;                 // io thread

  int64_t last_seen() {
    const std::lock_guard lock(mutex);
    return last;
  }
  void take_executor(const asio::any_io_executor& from) {
    const std::lock_guard lock(mutex);
    if (!executor) executor = from;
  }
};

Watchers::Watchers(store::ChangeLog& log) : shared_(std::make_shared<Shared>()) {
  subscription_ = log.on_change([shared = shared_](int64_t last) {
    std::optional<asio::any_io_executor> executor;
    {
      const std::lock_guard lock(shared->mutex);
      shared->last = last;
      executor = shared->executor;
    }
    if (!executor) return;
    asio::post(*executor, [shared] {
      for (net::Signal* signal : shared->waiting) signal->notify();
    });
  });
}

asio::awaitable<void> Watchers::wait(net::Response& response, int64_t seen,
                                     std::chrono::milliseconds at_most) {
  const std::shared_ptr<Shared> shared = shared_;
  shared->take_executor(co_await asio::this_coro::executor);
  struct Place {
    Shared& of;
    net::Signal* signal;
    ~Place() { of.waiting.erase(signal); }
  };
  const Place place{*shared, &response.signal()};
  shared->waiting.insert(place.signal);
  // Its number is read after this one is among those who are woken, so none is missed.
  if (shared->last_seen() > seen || response.interruption() != net::Interruption::none) co_return;
  co_await response.signal().wait(at_most);
}

}  // namespace neutrino::cloud
