// An HTTP/1.1 client for servers of our own (gateway to replica, probes): asynchronous, with connections kept for the next
// request, bodies as they come, and a precise answer to "may this request be sent once more?". Strangers: fetch.h.
//
// One thread: the executor's. Names are not resolved; a replica's address is an IP address and a port. Memory per exchange is
// bounded: 8 KiB for reading, an answer's header up to limits::kHeaderBytes. A body is read only as fast as read() is called, so
// a slow reader slows the server down.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "net/request.h"

namespace neutrino::net {

namespace asio = boost::asio;
using std::chrono::milliseconds;

struct ClientAddress {
  std::string host;  // an IPv4 or IPv6 address
  int port = 0;
  auto operator<=>(const ClientAddress&) const = default;
};

struct ClientTimeouts {
  milliseconds connect{3000};
  milliseconds send_stall{30000};   // the server takes nothing of the request
  milliseconds first_byte{600000};  // from the request's end to the first byte of an answer
  milliseconds idle{300000};        // between bytes of the answer
};

struct ClientOptions {
  int64_t idle_per_address = 256;  // connections kept for the next request; more are closed
  milliseconds keep{30000};        // and for how long: less than the server keeps them (limits::kIdleSeconds)
  milliseconds tick{100};          // resolution of the timeouts
};

// How an exchange failed. `refused`: no connection came about. `closed`: it ended before the answer did.
enum class ClientFault : uint8_t { none, refused, closed, timeout, malformed, cancelled };
std::string_view client_fault_name(ClientFault fault);

struct ClientRequest {
  std::string_view method = "GET";
  std::string_view target = "/";  // path and query, as on the wire
  std::vector<Header> headers;    // besides Host and the body's framing
  std::string_view body;          // borrowed until send() returns
  // Instead of `body`: asked for one piece after the other, which are sent as chunks; empty: the end. Pieces are borrowed until
  // the next call. A request whose body is streamed is never sent twice.
  std::function<asio::awaitable<std::string_view>()> body_stream;
};

class HttpClient;

// One request and its answer. Give it the time of a coroutine's scope: destroyed before the answer's end, it closes the connection.
class ClientExchange {
 public:
  ClientExchange(HttpClient& client, ClientAddress address, ClientTimeouts timeouts = {});
  ~ClientExchange();
  ClientExchange(const ClientExchange&) = delete;
  ClientExchange& operator=(const ClientExchange&) = delete;

  // Once. Connects (or takes a kept connection), sends, reads the answer's header. A server that answers before it has taken
  // the whole request (413) is heard.
  asio::awaitable<ClientFault> send(const ClientRequest& request);

  int status() const;
  const std::vector<Header>& headers() const;                  // names in lower case, framing included
  std::string_view header(std::string_view lower_case) const;  // first value; empty if absent
  // Bytes of the body that have arrived (chunks decoded), valid until the next call; waits for at least one. Empty: done() or
  // fault() says which.
  asio::awaitable<std::string_view> read();
  bool done()
      const;  // the answer has come to its proper end; may be so before read() handed out the last bytes
  std::string_view ready() const;  // what the next read() returns without waiting
  ClientFault fault() const;

  void cancel();              // any time; a send() or read() under way returns with `cancelled`
  bool request_sent() const;  // a byte of the request has left this process: the server may have acted on it
  bool answer_begun() const;  // a byte of an answer has arrived
  // May the same request be tried elsewhere? Never after the first byte; after it was sent only if doing it twice does no harm.
  bool may_repeat(bool idempotent) const { return !answer_begun() && (idempotent || !request_sent()); }

 private:
  friend class HttpClient;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class HttpClient {
 public:
  explicit HttpClient(asio::any_io_executor executor, ClientOptions options = {});
  ~HttpClient();  // exchanges may outlive it
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void forget(const ClientAddress& address);  // closes its kept connections: the server there is gone
  // Closes all kept connections and starts no timer any more, so that the executor's run() may end.
  void stop();
  int64_t idle_connections() const;
  int64_t connections_opened() const;

 private:
  friend class ClientExchange;
  struct Impl;
  std::shared_ptr<Impl> impl_;  // shared with its timer and the exchanges
};

}  // namespace neutrino::net
