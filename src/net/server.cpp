#include "net/server.h"

#include <sys/resource.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <utility>

#include "base/log.h"
#include "net/connection.h"
#include "net/file_watch.h"

namespace neutrino::net {
namespace {

using asio::ip::tcp;
using SteadyClock = std::chrono::steady_clock;
constexpr milliseconds kUnwind{
    3000};  // for interrupted requests to say so, and for closed connections to end

constexpr milliseconds kIoPatience{200};  // for the io thread to say the last words itself

int64_t now_ns() { return SteadyClock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

void raise_open_files_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

struct HttpServer::Impl {
  explicit Impl(ServerOptions options)
      : state{.options = std::move(options),
              .hosts = HostNames("127.0.0.1", {}),
              .keys = {},
              .rate_limits = {},
              .tls = {},
              .routes = {},
              .connections = {},
              .on_request_end = {}} {
    state.hosts = HostNames(state.options.host, state.options.allowed_hosts);
    state.on_request_end = [this] { request_ended(); };
    take_keys(all_keys());
    take_tls(load_tls(state.options.tls));
  }
  ~Impl() {
    refused.clear();
    acceptor.reset();
  }

  void listen();
  void adopt(int socket);
  asio::awaitable<void> accept_clients();
  asio::awaitable<void> serve_client(std::unique_ptr<Connection> connection);
  asio::awaitable<void> tick();
  bool make_room();
  ApiKeys all_keys() const;
  void take_keys(ApiKeys keys);
  void reload_keys();
  void take_tls(std::shared_ptr<asio::ssl::context> tls);
  void reload_tls();
  void begin_drain(milliseconds grace);
  void request_ended();
  void interrupt_all();
  void finish();
  void last_words(const Error& error, bool io_hangs);
  void refuse_unaccepted(const Error& error);

  ServerState state;
  FileWatch tls_files{state.options.tls.all()};
  FileWatch key_file{state.options.key_file.empty() ? std::vector<std::filesystem::path>()
                                                    : std::vector{state.options.key_file}};
  std::vector<std::function<void()>> stop_callbacks;
  std::optional<tcp::acceptor> acceptor;
  std::vector<std::unique_ptr<Connection>> refused;  // unread, by the last words of another thread
  std::atomic<bool> draining{false};
  std::atomic<int64_t> connection_count{0}, in_flight{0}, body_bytes{0};
  SteadyClock::time_point interrupt_at{}, give_up_at{};
  bool interrupted = false, finished = false;
  std::atomic<int64_t> ticked_ns{0};  // 0: run() does not run
  asio::io_context io{1};             // last: what is left of its coroutines refers to the members above
};

void HttpServer::Impl::listen() {
  const ServerOptions& options = state.options;
  boost::system::error_code error;
  if (options.socket >= 0) return adopt(options.socket);
  if (options.port < 0 || options.port > 65535)
    throw make_error(ErrorCode::invalid_argument, "port must be 0-65535, got {}", options.port);
  tcp::resolver resolver(io);
  const auto found = resolver.resolve(options.host, std::to_string(options.port), error);
  if (error || found.empty())
    throw make_error(ErrorCode::invalid_argument, "host \"{}\" is not an address of this machine: {}",
                     options.host, error.message());
  const tcp::endpoint endpoint = found.begin()->endpoint();
  acceptor.emplace(io);
  acceptor->open(endpoint.protocol());
  acceptor->set_option(tcp::acceptor::reuse_address(true));
  acceptor->non_blocking(true);
  acceptor->bind(endpoint, error);
  if (!error) acceptor->listen(tcp::acceptor::max_listen_connections, error);
  if (error == asio::error::address_in_use)
    throw make_error(ErrorCode::unavailable,
                     "port {} on {} is in use by another program; choose one with --port (0: any free one)",
                     options.port, options.host);
  if (error)
    throw make_error(ErrorCode::unavailable, "cannot listen on {} port {}: {}", options.host, options.port,
                     error.message());
  raise_open_files_limit();
}

void HttpServer::Impl::adopt(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw make_error(ErrorCode::invalid_argument, "file descriptor {} is not a socket", socket);
  acceptor.emplace(io);
  acceptor->assign(address.ss_family == AF_INET6 ? tcp::v6() : tcp::v4(), socket);
  acceptor->non_blocking(true);
  raise_open_files_limit();
}

asio::awaitable<void> HttpServer::Impl::accept_clients() {
  asio::steady_timer pause(io);
  while (!finished) {
    // Accepted only here, so that at any time a client is in the kernel's queue or among the connections: see last_words().
    co_await acceptor->async_wait(tcp::acceptor::wait_read, asio::as_tuple(asio::use_awaitable));
    if (finished || !acceptor->is_open()) co_return;
    boost::system::error_code error;
    tcp::socket socket = acceptor->accept(error);
    if (error == asio::error::would_block) continue;
    if (error) {  // out of file descriptors: let some connections end
      make_room();
      pause.expires_after(milliseconds(50));
      co_await pause.async_wait(asio::as_tuple(asio::use_awaitable));
      continue;
    }
    const bool full = static_cast<int64_t>(state.connections.size()) >= state.options.connections_max;
    if (full && !make_room()) continue;
    auto connection = std::make_unique<Connection>(state, make_stream(std::move(socket), state.tls));
    asio::co_spawn(io, serve_client(std::move(connection)), asio::detached);
  }
}

asio::awaitable<void> HttpServer::Impl::serve_client(std::unique_ptr<Connection> connection) {
  connection_count.fetch_add(1);
  try {
    co_await connection->run();
  } catch (const std::exception& error) {
    spdlog::error("connection ended by an exception error=\"{}\"", error.what());
  }
  connection_count.fetch_sub(1);
}

// Closes the connection that has been without a request for the longest time. False: all are busy.
bool HttpServer::Impl::make_room() {
  Connection* oldest = nullptr;
  for (Connection* connection : state.connections)
    if (connection->evictable() && (!oldest || connection->since() < oldest->since())) oldest = connection;
  if (oldest) oldest->close();
  return oldest != nullptr;
}

asio::awaitable<void> HttpServer::Impl::tick() {
  asio::steady_timer timer(io);
  while (!finished || !state.connections.empty()) {
    timer.expires_after(state.options.tick);
    co_await timer.async_wait(asio::as_tuple(asio::use_awaitable));
    const auto now = SteadyClock::now();
    ticked_ns = now_ns();
    const std::vector<Connection*> connections(state.connections.begin(), state.connections.end());
    for (Connection* connection : connections) connection->check_deadline(now);
    in_flight = state.requests_in_flight;
    body_bytes = state.body_bytes;
    if (key_file.poll()) reload_keys();
    if (tls_files.poll()) reload_tls();
    if (state.options.on_tick && !finished) state.options.on_tick();
    if (state.draining && !interrupted && now >= interrupt_at) interrupt_all();
    if (interrupted && now >= give_up_at) {
      if (finished) {
        spdlog::error("{} connections did not end in time", state.connections.size());
        io.stop();
        co_return;
      }
      finish();
    }
  }
}

ApiKeys HttpServer::Impl::all_keys() const {
  ApiKeys keys;
  for (ApiKey key : state.options.keys.keys()) {
    if (key.limits.is_unlimited()) key.limits = state.options.key_limits;
    keys.add(std::move(key));
  }
  if (!state.options.key_file.empty()) keys.add_file(state.options.key_file, state.options.key_limits);
  return keys;
}

void HttpServer::Impl::take_keys(ApiKeys keys) {
  const int64_t now_ns = SteadyClock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const ApiKey anybody{.name = "", .digest = {}, .scopes = kAllScopes, .limits = state.options.key_limits};
  state.keys = std::move(keys);
  state.rate_limits.update(state.keys.empty() ? std::span(&anybody, 1) : state.keys.keys(), now_ns);
}

// A bad file changes nothing; requests of keys that are gone end now.
void HttpServer::Impl::reload_keys() {
  if (state.options.key_file.empty()) return;
  bool good = true;
  try {
    take_keys(all_keys());
    spdlog::info("keys loaded file={} keys={}", state.options.key_file.string(), state.keys.keys().size());
    for (Connection* connection : state.connections) connection->end_revoked();
  } catch (const Error& error) {
    good = false;
    spdlog::error("the keys stay as they were, for the key file is bad: {}", error.message());
  }
  if (state.options.on_reload) state.options.on_reload("keys", good);
}

void HttpServer::Impl::take_tls(std::shared_ptr<asio::ssl::context> tls) {
  state.tls = std::move(tls);
  if (state.tls) log_tls(state.options.tls, *state.tls);
}

// Connections that are there keep the certificate that they have seen.
void HttpServer::Impl::reload_tls() {
  if (!state.options.tls.enabled()) return;
  bool good = true;
  try {
    take_tls(load_tls(state.options.tls));
  } catch (const Error& error) {
    good = false;
    spdlog::error("the certificate stays as it was, for the new one is bad: {}", error.message());
  }
  if (state.options.on_reload) state.options.on_reload("tls", good);
}

void HttpServer::Impl::begin_drain(milliseconds grace) {
  const auto at = SteadyClock::now() + grace;
  if (!state.draining || at < interrupt_at) interrupt_at = at;
  if (!state.draining)
    spdlog::info("draining requests={} grace_ms={}", state.requests_in_flight, grace.count());
  state.draining = true;
  if (grace <= milliseconds(0) && !interrupted) interrupt_all();
  request_ended();
}

void HttpServer::Impl::interrupt_all() {
  interrupted = true;
  give_up_at = SteadyClock::now() + kUnwind;
  for (Connection* connection : state.connections) connection->interrupt(Interruption::shutdown);
}

void HttpServer::Impl::request_ended() {
  in_flight = state.requests_in_flight;
  if (state.draining && state.requests_in_flight == 0 && !finished) asio::post(io, [this] { finish(); });
}

void HttpServer::Impl::finish() {
  if (finished || (state.requests_in_flight > 0 && SteadyClock::now() < give_up_at)) return;
  finished = true;
  interrupted = true;
  give_up_at = SteadyClock::now() + kUnwind;
  boost::system::error_code ignored;
  acceptor->close(ignored);
  const std::vector<Connection*> connections(state.connections.begin(), state.connections.end());
  for (Connection* connection : connections) connection->close();
  for (const auto& callback : stop_callbacks) callback();
}

// An io thread that runs answers those whose request has not arrived itself, until the process ends.
void HttpServer::Impl::last_words(const Error& error, bool io_hangs) {
  for (Connection* connection : state.connections)
    if (io_hangs || !connection->evictable()) connection->last_words(error);
  if (io_hangs) refuse_unaccepted(error);
}

// Clients in the kernel's queue. Closing their sockets with a request unread would take the answer back.
void HttpServer::Impl::refuse_unaccepted(const Error& error) {
  for (;;) {
    boost::system::error_code none_left;
    tcp::socket socket = acceptor->accept(none_left);
    if (none_left) return;
    refused.push_back(std::make_unique<Connection>(state, make_stream(std::move(socket), state.tls)));
    refused.back()->last_words(error);
  }
}

HttpServer::HttpServer(ServerOptions options) : impl_(new Impl(std::move(options))) {}
HttpServer::~HttpServer() = default;

asio::any_io_executor HttpServer::executor() { return impl_->io.get_executor(); }
void HttpServer::set_routes(std::vector<Route> routes) { impl_->state.routes = std::move(routes); }
void HttpServer::spawn(asio::awaitable<void> task) {
  asio::co_spawn(impl_->io, std::move(task), asio::detached);
}
void HttpServer::on_stop(std::function<void()> callback) {
  impl_->stop_callbacks.push_back(std::move(callback));
}
void HttpServer::listen() { impl_->listen(); }
int HttpServer::port() const { return impl_->acceptor->local_endpoint().port(); }

void HttpServer::run() {
  asio::co_spawn(impl_->io, impl_->accept_clients(), asio::detached);
  asio::co_spawn(impl_->io, impl_->tick(), asio::detached);
  impl_->ticked_ns = now_ns();
  impl_->io.run();
  impl_->ticked_ns = 0;
}

void HttpServer::last_words(const Error& error) {
  struct Said {
    std::atomic<bool> begun{false};
    std::promise<void> done;
  };
  const auto said = std::make_shared<Said>();
  const auto say = [impl = impl_.get(), said, error](bool io_hangs) {
    if (said->begun.exchange(true)) return;
    impl->last_words(error, io_hangs);
    said->done.set_value();
  };
  asio::post(impl_->io, [say] { say(false); });
  if (said->done.get_future().wait_for(kIoPatience) == std::future_status::timeout) say(true);
}

int64_t HttpServer::stuck_ns() const {
  const int64_t ticked_ns = impl_->ticked_ns;
  const int64_t tick_ns = impl_->state.options.tick / std::chrono::nanoseconds(1);
  return ticked_ns == 0 ? 0 : std::max<int64_t>(0, now_ns() - ticked_ns - tick_ns);
}

void HttpServer::drain(milliseconds grace) {
  impl_->draining = true;
  asio::post(impl_->io, [impl = impl_.get(), grace] { impl->begin_drain(grace); });
}

void HttpServer::stop_listening() {
  asio::post(impl_->io, [impl = impl_.get()] {
    boost::system::error_code ignored;
    impl->acceptor->close(ignored);
  });
}

void HttpServer::reload() {
  asio::post(impl_->io, [impl = impl_.get()] {
    impl->reload_keys();
    impl->reload_tls();
  });
}

bool HttpServer::draining() const { return impl_->draining; }
int64_t HttpServer::connections() const { return impl_->connection_count; }
int64_t HttpServer::body_bytes() const { return impl_->body_bytes; }
int64_t HttpServer::requests_in_flight() const { return impl_->in_flight; }

}  // namespace neutrino::net
