#include "net/workers.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <chrono>
#include <list>
#include <mutex>
#include <utility>

namespace neutrino::net {

using SteadyClock = std::chrono::steady_clock;

struct Workers::Pool {
  explicit Pool(size_t count) : threads(count) {}
  mutable std::mutex mutex;                  // guards the one below
  std::list<SteadyClock::time_point> began;  // of what runs now, the oldest first
  asio::thread_pool threads;

  asio::awaitable<void> call(std::function<void()> work) {
    const Place place(*this);
    work();
    co_return;
  }

 private:
  // In the list as long as the work runs.
  class Place {
   public:
    explicit Place(Pool& pool) : pool_(pool) {
      const std::lock_guard lock(pool_.mutex);
      place_ = pool_.began.insert(pool_.began.end(), SteadyClock::now());
    }
    ~Place() {
      const std::lock_guard lock(pool_.mutex);
      pool_.began.erase(place_);
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;

   private:
    Pool& pool_;
    std::list<SteadyClock::time_point>::iterator place_;
  };
};

Workers::Workers(int threads) : threads_(threads), pool_(new Pool(static_cast<size_t>(threads))) {}

Workers::~Workers() { pool_->threads.join(); }

asio::awaitable<void> Workers::run(std::function<void()> work) {
  co_await asio::co_spawn(pool_->threads.get_executor(), pool_->call(std::move(work)), asio::use_awaitable);
}

int64_t Workers::oldest_task_ns() const {
  const std::lock_guard lock(pool_->mutex);
  if (pool_->began.empty()) return 0;
  return (SteadyClock::now() - pool_->began.front()) / std::chrono::nanoseconds(1);
}

}  // namespace neutrino::net
