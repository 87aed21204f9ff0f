// One client connection: reads requests, answers them, watches for the client leaving. Only net/server.cpp includes this.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/ip/tcp.hpp>

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "net/http_syntax.h"
#include "net/rate_limit.h"
#include "net/read_buffer.h"
#include "net/server.h"
#include "net/signal.h"
#include "net/stream.h"

namespace neutrino::net {

class Connection;

// What the connections of a server share. io thread only.
struct ServerState {
  ServerOptions options;
  HostNames hosts;
  ApiKeys keys;  // of the options and of the key file
  RateLimits rate_limits;
  std::shared_ptr<asio::ssl::context> tls;  // of new connections; null: plain
  std::vector<Route> routes;
  std::set<Connection*> connections;  // borrowed; each lives in its coroutine
  int64_t requests_in_flight = 0;
  int64_t body_bytes = 0;  // held by all requests in flight
  bool draining = false;
  std::function<void()> on_request_end;
};

class Connection {
 public:
  Connection(ServerState& state, std::unique_ptr<Stream> stream);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  asio::awaitable<void> run();

  // For the server, on the io thread.
  void check_deadline(std::chrono::steady_clock::time_point now);
  bool evictable() const { return !exchange_ && stream_->is_open(); }  // no request has arrived
  std::chrono::steady_clock::time_point since() const { return since_; }
  void interrupt(Interruption interruption);
  void end_revoked();  // interrupts a request whose key is not among the keys any more
  // Any thread, if the io thread hangs: the error is the end of what is being answered, or the answer to what may be arriving.
  void last_words(const Error& error);
  void close();

 private:
  class Exchange;
  class Parser;
  enum class Waiting : uint8_t { nothing, reading, writing };

  asio::awaitable<bool> handshake();
  asio::awaitable<bool> read_header(Request& request, Parser& parser);
  asio::awaitable<void> read_body(Request& request, Parser& parser);
  asio::awaitable<void> serve(Request& request, Parser& parser);
  asio::awaitable<void> answer(Exchange& exchange, Request& request, Parser& parser);
  void authorize(const Route* route, Request& request) const;
  void limit_rate(const Route& route, Request& request, Exchange& exchange) const;
  asio::awaitable<void> run_handler(const Route& route, const Request& request, Exchange& exchange);
  void start_watching();
  asio::awaitable<void> watch();
  asio::awaitable<void> refuse(Request& request, const Error& error);
  asio::awaitable<void> conclude(Exchange& exchange, std::optional<Error> failure);
  asio::awaitable<void> linger();
  asio::awaitable<bool> read_more();
  asio::awaitable<bool> write_all(std::string_view bytes);
  std::string_view unread() const { return buffer_.unread(); }
  void end_with(std::string bytes);
  void wait_for(Waiting what, milliseconds at_most);
  void begin_request(Exchange& exchange);
  void finish_request(const Request& request, Exchange& exchange);

  ServerState& state_;
  std::unique_ptr<Stream> stream_;
  std::string peer_;  // address and port
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  ReadBuffer buffer_;
  BodyFraming framing_;
  bool fresh_ = true;  // no request yet
  bool keep_alive_ = true;
  bool http_1_0_ = false;
  bool body_read_ = true;  // nothing of the current request is left on the wire
  bool timed_out_ = false;
  Waiting waiting_ = Waiting::nothing;
  std::chrono::steady_clock::time_point deadline_{};
  std::string last_words_;        // while they are sent
  Exchange* exchange_ = nullptr;  // the request being answered, else null
  asio::cancellation_signal stop_watching_;
  bool handling_ = false;  // a handler runs
  bool watching_ = false;  // and a watcher beside it
  Signal watcher_ended_;
};

}  // namespace neutrino::net
