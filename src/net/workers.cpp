#include "net/workers.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/thread_pool.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <utility>

namespace neutrino::net {

struct Workers::Pool {
  asio::thread_pool threads;
};

namespace {
asio::awaitable<void> call(std::function<void()> work) {
  work();
  co_return;
}
}  // namespace

Workers::Workers(int threads) : pool_(new Pool{asio::thread_pool(static_cast<size_t>(threads))}) {}

Workers::~Workers() { pool_->threads.join(); }

asio::awaitable<void> Workers::run(std::function<void()> work) {
  co_await asio::co_spawn(pool_->threads.get_executor(), call(std::move(work)), asio::use_awaitable);
}

}  // namespace neutrino::net
