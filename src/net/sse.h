// Server-sent events: `data: ...` lines, and a comment now and then so that silence means death, not thought.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <string>
#include <string_view>

#include "net/response.h"

namespace neutrino::net {

// The bytes of one event. `data` and `name` are one line each; without a name it is a plain message.
std::string event_bytes(std::string_view data, std::string_view name = {});

class EventStream {
 public:
  EventStream(Response& response, std::chrono::milliseconds ping) : response_(response), ping_(ping) {}

  asio::awaitable<void> begin();
  // `data` and `name` are one line each; no name: no `event:` line. false: nobody reads any more.
  asio::awaitable<bool> event(std::string_view data, std::string_view name = {});
  // Sleeps until the response's signal is notified; writes `: ping` after `ping` of silence.
  asio::awaitable<void> wait();

 private:
  using Clock = std::chrono::steady_clock;
  Response& response_;
  std::chrono::milliseconds ping_;
  Clock::time_point last_write_{};
};

}  // namespace neutrino::net
