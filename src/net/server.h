// The HTTP/1.1 server: sockets, limits on what a client may send and how slowly, the checks before a route, drain.
//
// One io thread runs every connection as a coroutine; a handler that has to compute goes through Workers. Order of the checks:
// header syntax (400, 431), Host (421), Origin (403), key (401), its scope (403), route (404, 405), drain (503), body (415, 413, 408), handler.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/limits.h"
#include "net/api_keys.h"
#include "net/auth.h"
#include "net/response.h"
#include "net/route.h"
#include "net/tls.h"

namespace neutrino::net {

using std::chrono::milliseconds;

struct Timeouts {
  milliseconds header{limits::kHeaderReadSeconds * 1000};
  milliseconds body{limits::kBodyReadSeconds * 1000};
  milliseconds idle{limits::kIdleSeconds * 1000};
  milliseconds write_stall{limits::kWriteStallSeconds * 1000};
};

// What became of a request, for metrics and the request log. Called exactly once per request that had a request line.
struct Completion {
  int status = 0;          // as sent; 499 when the client left before an answer
  bool truncated = false;  // a stream that did not reach its end
  std::string error;       // reason of the error that ended it, else empty
  int64_t bytes_sent = 0;
  int64_t duration_ns = 0;
  json::object log;  // from the Response, as the other two
  Attributes trace;
  std::vector<TracePart> trace_parts;
};

struct ServerOptions {
  std::string host = "127.0.0.1";
  int port = 8000;  // 0: any free one
  int socket = -1;  // a listening socket that was passed on, instead of host and port; the server closes it
  ApiKeys keys;
  std::filesystem::path key_file;  // more keys, read again when it changes; empty: none
  KeyLimits key_limits;       // of keys without limits of their own; without keys, of all clients together
  bool metrics_open = false;  // routes for scrapers need no key
  TlsFiles tls;               // read again when they change; without a certificate: plain HTTP
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> allowed_origins;
  int64_t connections_max = limits::kConnections;
  Timeouts timeouts;
  milliseconds tick{250};            // resolution of the timeouts
  std::function<void()> on_request;  // a request has arrived: on_complete will be called for it
  std::function<void(const Request&, const Completion&)> on_complete;
  std::function<void()> on_tick;                                    // io thread, every tick
  std::function<void(std::string_view what, bool good)> on_reload;  // io thread; `what`: "keys", "tls"
  std::function<void()> on_handshake_failure;                       // io thread
};

class HttpServer {
 public:
  explicit HttpServer(
      ServerOptions options);  // throws Error{invalid_argument} for a bad key file or certificate
  ~HttpServer();

  asio::any_io_executor executor();
  void set_routes(std::vector<Route> routes);    // before run()
  void spawn(asio::awaitable<void> task);        // runs beside the connections; must end when on_stop says so
  void on_stop(std::function<void()> callback);  // called on the io thread when the last request is done

  void listen();  // throws Error{unavailable} that names a busy port
  int port() const;
  void run();  // serves on this thread until drain() or stop() is through

  // Any thread. drain(): new work gets 503, what runs may finish for `grace`, then it is interrupted and answered with an
  // error, then run() returns. stop(): drain(0). Neither blocks.
  void drain(milliseconds grace);
  void stop() { drain(milliseconds(0)); }
  // Any thread. Takes no more connections; those that are there go on. For a process whose successor needs the port.
  void stop_listening();
  void
  reload();  // any thread: reads keys and certificates again even if they look unchanged (every tick looks)
  // Any thread, for a process that ends because something hangs: everything that is being answered gets this error now (a stream
  // its error event) and counts as ended. Handlers are left as they are; what they still send is dropped. If the io thread itself
  // hangs, so do the clients get it whose requests nobody has read; through TLS nobody can then, and the process's end tells them.
  void last_words(const Error& error);
  bool draining() const;
  int64_t connections() const;
  int64_t requests_in_flight() const;
  int64_t body_bytes()
      const;  // any thread: of the requests in flight; at most limits::kBodyBytesTotal and what one read brings
  int64_t stuck_ns() const;  // any thread: how late the io thread's tick is; 0 while run() does not run

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neutrino::net
