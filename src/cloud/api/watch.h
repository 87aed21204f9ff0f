// Waiting for the change log to grow without a thread per waiter: coroutines sleep on signals, one listener of the log wakes them.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <memory>

#include "net/response.h"
#include "store/change_log.h"

namespace neutrino::cloud {

namespace asio = boost::asio;

class Watchers {
 public:
  explicit Watchers(store::ChangeLog& log);  // outlives this

  // Sleeps until the log has a number beyond `seen`, the response is interrupted, or time is up; it may return early. io thread.
  asio::awaitable<void> wait(net::Response& response, int64_t seen, std::chrono::milliseconds at_most);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<void> subscription_;  // gone first
};

}  // namespace neutrino::cloud
