// The answer to one request, as the routes see it: either send() once, or begin_stream() and write() pieces. What a handler
// throws becomes the error body (or, in a stream of events, the error event); handlers do not write errors themselves.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "net/request.h"
#include "net/signal.h"
#include "net/trace.h"

namespace neutrino::net {

// key_revoked: the connection says so to the client; a handler just ends.
enum class Interruption : uint8_t { none, client_gone, key_revoked, shutdown };

// A stretch of the work on a request, for its trace. Monotonic times.
struct TracePart {
  std::string name;
  int64_t start_ns = 0, end_ns = 0;
  Attributes attributes;
};

class Response {
 public:
  virtual ~Response() = default;

  // Names are written as given; a value must not hold CR or LF.
  void set_header(std::string name, std::string value) {
    headers_.push_back({std::move(name), std::move(value)});
  }

  // The whole answer; it is written when the handler returns.
  void send(int status, std::string body, std::string_view content_type = "application/json") {
    status_ = status;
    body_ = std::move(body);
    content_type_ = content_type;
  }

  // Status 200, or what set_stream_status() said, and the headers set so far go out now; pieces follow. write() returns false when
  // nobody reads any more.
  virtual asio::awaitable<void> begin_stream(std::string_view content_type) = 0;
  virtual asio::awaitable<bool> write(std::string_view piece) = 0;
  // The next head or piece, or both, go out in one write with what follows: for a handler that has that already.
  virtual void hold_next() = 0;
  void set_stream_status(int status) { stream_status_ = status; }

  // Notified when interruption() changes; a handler that waits for something else subscribes it there too.
  virtual Signal& signal() = 0;
  virtual Interruption interruption() const = 0;
  std::function<void()>
      on_interruption;  // called then as well: for a handler that waits where no signal reaches it

  json::object log;                    // what the handler wants in the request's log line
  Attributes trace;                    // and in its trace
  std::vector<TracePart> trace_parts;  // spans under the request's

 protected:
  int status_ = 0;  // 0: nothing sent yet
  int stream_status_ = 200;
  std::string body_;
  std::string content_type_;
  std::vector<Header> headers_;
};

}  // namespace neutrino::net
