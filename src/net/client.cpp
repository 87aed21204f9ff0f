#include "net/client.h"

#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/basic_parser.hpp>

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/limits.h"
#include "net/read_buffer.h"

namespace neutrino::net {
namespace {

namespace http = boost::beast::http;
using asio::ip::tcp;
using SteadyClock = std::chrono::steady_clock;
using ErrorCodeOf = boost::system::error_code;

constexpr size_t kReadBytes = 8 << 10;
constexpr size_t kJoinBytes = 64 << 10;  // a body up to here goes out in one write with its header
constexpr int kInterimAnswers = 8;       // 1xx before the answer itself
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// Headers into our own struct, the body into one string that read() hands out.
class AnswerParser final : public http::basic_parser<false> {
 public:
  AnswerParser() {
    header_limit(static_cast<uint32_t>(limits::kHeaderBytes));
    body_limit(boost::none);
    eager(true);
  }
  int status = 0;
  std::vector<Header> headers;
  std::string body;  // decoded and not handed out yet

 private:
  using View = boost::beast::string_view;
  void on_request_impl(http::verb, View, View, int, ErrorCodeOf&) override {}
  void on_response_impl(int code, View, int, ErrorCodeOf&) override { status = code; }
  void on_field_impl(http::field, View name, View value, ErrorCodeOf& error) override {
    if (static_cast<int64_t>(headers.size()) >= limits::kHeaderFields)
      return void(error = http::error::header_limit);
    Header& header = headers.emplace_back(Header{std::string(name), std::string(value)});
    std::transform(header.name.begin(), header.name.end(), header.name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
  }
  void on_header_impl(ErrorCodeOf&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCodeOf&) override {}
  size_t on_body_impl(View bytes, ErrorCodeOf&) override { return body.append(bytes), bytes.size(); }
  void on_chunk_header_impl(std::uint64_t, View, ErrorCodeOf&) override {}
  size_t on_chunk_body_impl(std::uint64_t, View bytes, ErrorCodeOf&) override {
    return body.append(bytes), bytes.size();
  }
  void on_finish_impl(ErrorCodeOf&) override {}
};

// A kept connection that the server has closed, or on which it said something unasked, is of no use.
bool is_quiet(tcp::socket& socket) {
  char byte = 0;
  const ssize_t got = ::recv(socket.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

std::string request_head(const ClientRequest& request, const ClientAddress& address) {
  std::string head;
  head.reserve(512);
  head.append(request.method).append(" ").append(request.target).append(" HTTP/1.1\r\n");
  const bool is_ipv6 = address.host.find(':') != std::string::npos;
  head.append("Host: ").append(is_ipv6 ? "[" + address.host + "]" : address.host);
  head.append(":").append(std::to_string(address.port)).append("\r\n");
  for (const Header& header : request.headers) {
    check(header.value.find_first_of("\r\n") == std::string::npos, "a header value is one line");
    head.append(header.name).append(": ").append(header.value).append("\r\n");
  }
  if (request.body_stream)
    head += "Transfer-Encoding: chunked\r\n";
  else if (!request.body.empty() || (request.method != "GET" && request.method != "HEAD"))
    head.append("Content-Length: ").append(std::to_string(request.body.size())).append("\r\n");
  return head.append("\r\n");
}

}  // namespace

std::string_view client_fault_name(ClientFault fault) {
  switch (fault) {
    case ClientFault::none: return "none";
    case ClientFault::refused: return "refused";
    case ClientFault::closed: return "closed";
    case ClientFault::timeout: return "timeout";
    case ClientFault::malformed: return "malformed";
    case ClientFault::cancelled: return "cancelled";
  }
  return "unknown";
}

// ---- the pool

struct HttpClient::Impl {
  struct Idle {
    tcp::socket socket;
    SteadyClock::time_point until;
  };

  Impl(asio::any_io_executor on, ClientOptions with)
      : executor(std::move(on)), options(with), timer(executor) {}

  std::optional<tcp::socket> take(const ClientAddress& address);
  void keep(const ClientAddress& address, tcp::socket socket);
  void enlist(ClientExchange::Impl* exchange);
  void leave(ClientExchange::Impl* exchange);
  void start_timer();
  void tick();

  asio::any_io_executor executor;
  ClientOptions options;
  asio::steady_timer timer;
  bool ticking = false, stopped = false;
  std::weak_ptr<Impl> self;
  std::map<ClientAddress, std::vector<Idle>> idle;  // the one used last is taken first
  std::vector<ClientExchange::Impl*> exchanges;     // borrowed; each knows its index
  int64_t opened = 0;
};

struct ClientExchange::Impl {
  enum class Waiting : uint8_t { nothing, something };

  Impl(std::shared_ptr<HttpClient::Impl> client, ClientAddress to, ClientTimeouts with)
      : shared(std::move(client)),
        pool(*shared),
        address(std::move(to)),
        timeouts(with),
        socket(pool.executor) {}

  asio::awaitable<bool> connect();
  asio::awaitable<bool> write(std::string_view bytes);
  asio::awaitable<bool> write_request(const ClientRequest& request);
  asio::awaitable<bool> write_stream(const ClientRequest& request);
  asio::awaitable<void> read_header(bool head);
  asio::awaitable<bool> receive(milliseconds at_most);
  void parse();
  void at_end_of_stream();
  void wait_for(milliseconds at_most) {
    waiting = Waiting::something;
    deadline = SteadyClock::now() + at_most;
  }
  void fail(ClientFault what) {
    if (fault == ClientFault::none)
      fault = timed_out ? ClientFault::timeout : cancelled ? ClientFault::cancelled : what;
  }
  void close() {
    ErrorCodeOf ignored;
    socket.close(ignored);
  }

  std::shared_ptr<HttpClient::Impl> shared;
  HttpClient::Impl& pool;
  ClientAddress address;
  ClientTimeouts timeouts;
  tcp::socket socket;
  size_t index = 0;  // among the pool's exchanges
  std::optional<AnswerParser> parser;
  ReadBuffer buffer;
  std::string piece;  // handed out
  Waiting waiting = Waiting::nothing;
  SteadyClock::time_point deadline{};
  bool sent = false, begun = false, timed_out = false, cancelled = false, whole_request = false;
  ClientFault fault = ClientFault::none;
};

std::optional<tcp::socket> HttpClient::Impl::take(const ClientAddress& address) {
  const auto found = idle.find(address);
  if (found == idle.end()) return std::nullopt;
  std::optional<tcp::socket> socket;
  while (!found->second.empty() && !socket) {
    if (is_quiet(found->second.back().socket)) socket = std::move(found->second.back().socket);
    found->second.pop_back();
  }
  if (found->second.empty()) idle.erase(found);
  return socket;
}

void HttpClient::Impl::keep(const ClientAddress& address, tcp::socket socket) {
  if (stopped) return;
  std::vector<Idle>& kept = idle[address];
  if (static_cast<int64_t>(kept.size()) >= options.idle_per_address) return;
  kept.push_back({std::move(socket), SteadyClock::now() + options.keep});
  start_timer();
}

void HttpClient::Impl::enlist(ClientExchange::Impl* exchange) {
  exchange->index = exchanges.size();
  exchanges.push_back(exchange);
  start_timer();
}

void HttpClient::Impl::leave(ClientExchange::Impl* exchange) {
  exchanges.back()->index = exchange->index;
  std::swap(exchanges[exchange->index], exchanges.back());
  exchanges.pop_back();
}

// Runs only while there is something to watch over, so that it keeps no executor alive for nothing.
void HttpClient::Impl::start_timer() {
  if (ticking || stopped) return;
  ticking = true;
  timer.expires_after(options.tick);
  timer.async_wait([weak = self](ErrorCodeOf error) {
    const auto impl = weak.lock();
    if (!impl) return;
    impl->ticking = false;
    if (!error) impl->tick();
  });
}

void HttpClient::Impl::tick() {
  const auto now = SteadyClock::now();
  for (ClientExchange::Impl* exchange : exchanges) {
    if (exchange->waiting == ClientExchange::Impl::Waiting::nothing || now < exchange->deadline) continue;
    exchange->timed_out = true;
    exchange->close();
  }
  for (auto& [address, kept] : idle) std::erase_if(kept, [&](const Idle& one) { return one.until <= now; });
  std::erase_if(idle, [](const auto& entry) { return entry.second.empty(); });
  if (!exchanges.empty() || !idle.empty()) start_timer();
}

HttpClient::HttpClient(asio::any_io_executor executor, ClientOptions options)
    : impl_(std::make_shared<Impl>(std::move(executor), options)) {
  impl_->self = impl_;
}

HttpClient::~HttpClient() { stop(); }

void HttpClient::forget(const ClientAddress& address) { impl_->idle.erase(address); }

void HttpClient::stop() {
  impl_->stopped = true;
  impl_->idle.clear();
  impl_->timer.cancel();
}

int64_t HttpClient::idle_connections() const {
  int64_t count = 0;
  for (const auto& [address, kept] : impl_->idle) count += static_cast<int64_t>(kept.size());
  return count;
}

int64_t HttpClient::connections_opened() const { return impl_->opened; }

// ---- one exchange

ClientExchange::ClientExchange(HttpClient& client, ClientAddress address, ClientTimeouts timeouts)
    : impl_(new Impl(client.impl_, std::move(address), timeouts)) {
  impl_->pool.enlist(impl_.get());
}

ClientExchange::~ClientExchange() {
  Impl& my = *impl_;
  my.pool.leave(&my);
  const bool whole = my.whole_request && my.parser && my.parser->is_done() && my.fault == ClientFault::none;
  const bool clean = whole && my.buffer.unread().empty() && my.parser->keep_alive();
  if (clean && !my.cancelled && my.socket.is_open()) my.pool.keep(my.address, std::move(my.socket));
}

asio::awaitable<ClientFault> ClientExchange::send(const ClientRequest& request) {
  Impl& my = *impl_;
  const bool connected = co_await my.connect();
  if (!connected) co_return my.fault;
  my.whole_request = co_await my.write_request(request);
  // What made the writing fail may be an answer that came early.
  co_await my.read_header(request.method == "HEAD");
  my.waiting = Impl::Waiting::nothing;
  co_return my.fault;
}

asio::awaitable<bool> ClientExchange::Impl::connect() {
  ErrorCodeOf error;
  if (cancelled) fail(ClientFault::cancelled);
  if (cancelled) co_return false;
  if (auto kept = pool.take(address)) {
    socket = std::move(*kept);
    co_return true;
  }
  const asio::ip::address ip = asio::ip::make_address(address.host, error);
  if (error || address.port < 1 || address.port > 65535) {
    fail(ClientFault::refused);
    co_return false;
  }
  const tcp::endpoint endpoint(ip, static_cast<uint16_t>(address.port));
  socket.open(endpoint.protocol(), error);
  if (!error) {
    wait_for(timeouts.connect);
    const auto [failure] = co_await socket.async_connect(endpoint, kAwait);
    waiting = Waiting::nothing;
    error = failure;
  }
  if (!error && socket.is_open()) {
    ++pool.opened;
    socket.set_option(tcp::no_delay(true), error);
    co_return true;
  }
  fail(ClientFault::refused);
  co_return false;
}

asio::awaitable<bool> ClientExchange::Impl::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (!socket.is_open()) co_return false;
    const ssize_t now =
        ::send(socket.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    size_t taken = now > 0 ? static_cast<size_t>(now) : 0;
    if (taken == 0) {
      wait_for(timeouts.send_stall);
      const auto [error, more] = co_await socket.async_write_some(asio::buffer(bytes), kAwait);
      waiting = Waiting::nothing;
      if (error) co_return false;
      taken = more;
    }
    sent = sent || taken > 0;
    bytes.remove_prefix(taken);
  }
  co_return true;
}

asio::awaitable<bool> ClientExchange::Impl::write_request(const ClientRequest& request) {
  std::string head = request_head(request, address);
  if (request.body_stream) {
    const bool began = co_await write(head);
    if (!began) co_return false;
    co_return co_await write_stream(request);
  }
  const bool joined = request.body.size() <= kJoinBytes;
  if (joined) head.append(request.body);
  const bool headed = co_await write(head);
  if (!headed || joined) co_return headed;
  co_return co_await write(request.body);
}

asio::awaitable<bool> ClientExchange::Impl::write_stream(const ClientRequest& request) {
  for (;;) {
    const std::string_view more = co_await request.body_stream();
    std::string chunk = more.empty() ? std::string("0\r\n\r\n") : fmt::format("{:x}\r\n", more.size());
    if (!more.empty()) chunk.append(more).append("\r\n");
    const bool written = co_await write(chunk);
    if (!written || more.empty()) co_return written;
  }
}

asio::awaitable<void> ClientExchange::Impl::read_header(bool head) {
  for (int interim = 0; interim <= kInterimAnswers && fault == ClientFault::none; ++interim) {
    parser.emplace();
    parser->skip(head);
    parse();
    while (fault == ClientFault::none && !parser->is_header_done()) {
      const bool more = co_await receive(begun ? timeouts.idle : timeouts.first_byte);
      if (!more) co_return;
      parse();
    }
    if (fault != ClientFault::none || parser->status < 100 || parser->status >= 200) co_return;
  }
  fail(ClientFault::malformed);
}

// Takes one read's worth into the buffer. False: `fault` says why, or the answer ended with the connection.
asio::awaitable<bool> ClientExchange::Impl::receive(milliseconds at_most) {
  if (!socket.is_open()) {
    fail(ClientFault::closed);
    co_return false;
  }
  wait_for(at_most);
  const auto [error, bytes] =
      co_await socket.async_read_some(asio::buffer(buffer.room(kReadBytes), kReadBytes), kAwait);
  waiting = Waiting::nothing;
  buffer.received(bytes);
  begun = begun || bytes > 0;
  if (!error && bytes > 0) co_return true;
  if (error == asio::error::eof)
    at_end_of_stream();
  else
    fail(ClientFault::closed);
  co_return false;
}

// An answer without length ends with its connection; any other is cut short.
void ClientExchange::Impl::at_end_of_stream() {
  ErrorCodeOf error;
  if (parser->is_header_done() && parser->need_eof() && !timed_out && !cancelled)
    parser->put_eof(error);
  else
    error = http::error::partial_message;
  if (error) fail(ClientFault::closed);
}

void ClientExchange::Impl::parse() {
  while (!buffer.unread().empty() && !parser->is_done()) {
    ErrorCodeOf error;
    const size_t used = parser->put(asio::buffer(buffer.unread()), error);
    buffer.consume(used);
    if (error == http::error::need_more) return;
    if (error) return fail(ClientFault::malformed);
    if (used == 0) return;
  }
}

asio::awaitable<std::string_view> ClientExchange::read() {
  Impl& my = *impl_;
  if (!my.parser) co_return std::string_view();
  while (my.parser->body.empty() && my.fault == ClientFault::none && !my.parser->is_done()) {
    const bool more = co_await my.receive(my.timeouts.idle);
    if (!more) break;
    my.parse();
  }
  my.piece.clear();
  my.piece.swap(my.parser->body);
  co_return my.piece;
}

std::string_view ClientExchange::ready() const {
  return impl_->parser ? std::string_view(impl_->parser->body) : std::string_view();
}

int ClientExchange::status() const { return impl_->parser ? impl_->parser->status : 0; }

const std::vector<Header>& ClientExchange::headers() const {
  static const std::vector<Header> none;
  return impl_->parser ? impl_->parser->headers : none;
}

std::string_view ClientExchange::header(std::string_view name) const {
  for (const Header& header : headers())
    if (header.name == name) return header.value;
  return {};
}

bool ClientExchange::done() const {
  return impl_->fault == ClientFault::none && impl_->parser && impl_->parser->is_done();
}
ClientFault ClientExchange::fault() const { return impl_->fault; }
bool ClientExchange::request_sent() const { return impl_->sent; }
bool ClientExchange::answer_begun() const { return impl_->begun; }

void ClientExchange::cancel() {
  impl_->cancelled = true;
  impl_->close();
}

}  // namespace neutrino::net
