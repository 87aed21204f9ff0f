#include "net/sse.h"

#include "base/error.h"

namespace neutrino::net {

std::string event_bytes(std::string_view data, std::string_view name) {
  constexpr std::string_view kLineEnds = "\r\n";
  check(data.find_first_of(kLineEnds) == std::string_view::npos &&
            name.find_first_of(kLineEnds) == std::string_view::npos,
        "an event is one line");
  std::string text;
  text.reserve(data.size() + name.size() + 16);
  if (!name.empty()) text.append("event: ").append(name).append("\n");
  return text.append("data: ").append(data).append("\n\n");
}

asio::awaitable<void> EventStream::begin() {
  response_.set_header("Cache-Control", "no-cache");
  response_.set_header("X-Accel-Buffering", "no");
  last_write_ = Clock::now();
  co_await response_.begin_stream("text/event-stream; charset=utf-8");
}

asio::awaitable<bool> EventStream::event(std::string_view data, std::string_view name) {
  const std::string text = event_bytes(data, name);
  last_write_ = Clock::now();
  co_return co_await response_.write(text);
}

asio::awaitable<void> EventStream::wait() {
  const auto silence = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - last_write_);
  if (silence < ping_) co_await response_.signal().wait(ping_ - silence);
  if (Clock::now() - last_write_ < ping_) co_return;
  last_write_ = Clock::now();
  co_await response_.write(": ping\n\n");
}

}  // namespace neutrino::net
