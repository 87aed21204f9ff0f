#include "net/connection.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/basic_parser.hpp>

#include <algorithm>
#include <ctime>
#include <exception>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "net/error_body.h"
#include "net/limits.h"

namespace neutrino::net {
namespace {

namespace http = boost::beast::http;
using SteadyClock = std::chrono::steady_clock;

constexpr size_t kReadBytes = 16 << 10;
constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);

// Made once a second.
const std::string& http_date() {
  thread_local std::time_t made = 0;
  thread_local std::string date;
  const std::time_t now = std::time(nullptr);
  if (now == made) return date;
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  date.assign(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
  made = now;
  return date;
}

Error http_error(std::string_view reason, std::string message) {
  return Error(ErrorCode::invalid_argument, std::move(message)).with_reason(std::string(reason));
}

Method method_of(http::verb verb) {
  switch (verb) {
    case http::verb::get: return Method::get;
    case http::verb::head: return Method::head;
    case http::verb::post: return Method::post;
    case http::verb::put: return Method::put;
    case http::verb::patch: return Method::patch;
    case http::verb::delete_: return Method::delete_;
    case http::verb::options: return Method::options;
    default: return Method::other;
  }
}

bool is_json(std::string_view content_type) {
  std::string type(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.pop_back();
  std::transform(type.begin(), type.end(), type.begin(), [](unsigned char c) { return std::tolower(c); });
  return type == "application/json";
}

int64_t now_ns() { return SteadyClock::now().time_since_epoch() / std::chrono::nanoseconds(1); }

// A peer that vanished without a word (power, network) is found out in two minutes, while its request waits or runs.
void notice_dead_peer(int fd) {
  const int on = 1, idle_s = 60, interval_s = 15, probes = 4;
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

}  // namespace

// Header and body into our own strings.
class Connection::Parser final : public http::basic_parser<true> {
 public:
  Method method = Method::other;
  int version = 11;  // 10 or 11
  std::string target;
  std::vector<Header> headers;  // names in lower case
  std::string body;

 private:
  using View = boost::beast::string_view;
  using ErrorCodeOf = boost::system::error_code;
  void on_request_impl(http::verb verb, View, View path, int http_version, ErrorCodeOf&) override {
    method = method_of(verb);
    target.assign(path);
    version = http_version;
  }
  void on_response_impl(int, View, int, ErrorCodeOf&) override {}
  void on_field_impl(http::field, View name, View value, ErrorCodeOf&) override {
    Header& header = headers.emplace_back(Header{std::string(name), std::string(value)});
    std::transform(header.name.begin(), header.name.end(), header.name.begin(),
                   [](unsigned char c) { return std::tolower(c); });
  }
  void on_header_impl(ErrorCodeOf&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, ErrorCodeOf&) override {
    if (length) body.reserve(std::min<size_t>(*length, kReadBytes));
  }
  size_t on_body_impl(View bytes, ErrorCodeOf&) override { return body.append(bytes), bytes.size(); }
  void on_chunk_header_impl(std::uint64_t, View, ErrorCodeOf&) override {}
  size_t on_chunk_body_impl(std::uint64_t, View bytes, ErrorCodeOf&) override {
    return body.append(bytes), bytes.size();
  }
  void on_finish_impl(ErrorCodeOf&) override {}
};

// ---- one request and its answer

class Connection::Exchange final : public Response {
 public:
  Exchange(Connection& connection, const Request& request)
      : connection_(connection), request_(request), signal_(connection.stream_->executor()) {}

  Signal& signal() override {
    connection_.start_watching();
    return signal_;
  }
  Interruption interruption() const override { return interruption_; }
  void interrupt(Interruption interruption) {
    if (interruption_ == Interruption::none) interruption_ = interruption;
    signal_.notify();
    if (on_interruption) on_interruption();
  }

  asio::awaitable<void> begin_stream(std::string_view content_type) override {
    status_ = stream_status_;
    content_type_ = content_type;
    std::string framing = connection_.http_1_0_ ? "" : "Transfer-Encoding: chunked\r\n";
    if (connection_.http_1_0_) connection_.keep_alive_ = false;
    co_await send_bytes(head(framing));
    streaming_ = true;  // from here on an error is an event
  }

  void hold_next() override { hold_next_ = true; }

  asio::awaitable<bool> write(std::string_view piece) override {
    if (piece.empty()) co_return interruption_ != Interruption::client_gone;
    std::string framed;
    if (!connection_.http_1_0_) {
      framed = fmt::format("{:x}\r\n", piece.size());
      framed.append(piece).append("\r\n");
      piece = framed;
    }
    co_return co_await send_bytes(piece);
  }

  // The end of a stream, or the whole of any other answer.
  asio::awaitable<void> finish() {
    if (streaming_) {
      if (!connection_.http_1_0_) co_await send_bytes("0\r\n\r\n");
      co_return;
    }
    std::string text = head(status_ == 204 ? "" : fmt::format("Content-Length: {}\r\n", body_.size()));
    if (request_.method != Method::head && status_ != 204) text += body_;
    co_await send_bytes(text);
  }

  asio::awaitable<void> fail(const Error& error) {
    error_ = error.reason().empty() ? std::string(error_code_name(error.code())) : error.reason();
    const ErrorShape shape = request_.route ? request_.route->errors : ErrorShape::openai;
    const int status = http_status(error, shape);
    if (status == 500) spdlog::error("request failed id={} error=\"{}\"", request_.id, error.message());
    if (!streaming_) {
      add_error_headers(status);
      send(status, error_body(error, request_.id, shape));
      co_return co_await finish();
    }
    truncated_ = true;
    connection_.keep_alive_ = false;
    if (!content_type_.starts_with("text/event-stream")) co_return connection_.close();  // no end: it is cut
    co_await write(error_event(error, request_.id, shape));
    co_await finish();
  }

  // The bytes that end the answer with this error.
  std::string last_words(const Error& error) {
    error_ = error.reason();
    const ErrorShape shape = request_.route ? request_.route->errors : ErrorShape::openai;
    truncated_ = streaming_;
    if (!streaming_) {
      send(http_status(error, shape), error_body(error, request_.id, shape));
      return head(fmt::format("Content-Length: {}\r\n", body_.size())) + body_;
    }
    const std::string event = error_event(error, request_.id, shape);
    return held_ +
           (connection_.http_1_0_ ? event : fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", event.size(), event));
  }
  const Request& request() const { return request_; }
  bool owes_completion() const { return !completed_; }
  void completed() { completed_ = true; }

  bool answered() const { return status_ != 0 || interruption_ == Interruption::client_gone; }

  Completion completion() {
    Completion result{.error = error_,
                      .log = std::move(log),
                      .trace = std::move(trace),
                      .trace_parts = std::move(trace_parts)};
    const bool left = interruption_ == Interruption::client_gone && !sent_all_;
    result.status = left && !streaming_ ? 499 : status_;
    result.truncated = truncated_ || (left && streaming_);
    result.bytes_sent = bytes_sent_;
    result.duration_ns = now_ns() - request_.received_ns;
    return result;
  }

 private:
  asio::awaitable<bool> send_bytes(std::string_view bytes) {
    sent_all_ = false;
    if (interruption_ == Interruption::client_gone) co_return false;
    bytes_sent_ += static_cast<int64_t>(bytes.size());
    if (hold_next_ || !held_.empty()) bytes = held_.append(bytes);
    if (std::exchange(hold_next_, false)) co_return true;
    const std::string joined = std::exchange(held_, {});
    if (!joined.empty()) bytes = joined;
    sent_all_ = co_await connection_.write_all(bytes);
    if (!sent_all_) interrupt(Interruption::client_gone);
    co_return sent_all_;
  }

  void add_error_headers(int status) {
    if (status == 401) set_header("WWW-Authenticate", "Bearer");
    if (status == 405) set_header("Allow", allowed_methods(connection_.state_.routes, request_.path));
  }

  std::string head(std::string_view framing) const {
    std::string text = fmt::format(
        "HTTP/1.{} {} {}\r\nDate: {}\r\nX-Request-Id: {}\r\n{}X-Content-Type-Options: nosniff\r\nConnection: "
        "{}\r\n",
        connection_.http_1_0_ ? 0 : 1, status_, status_text(status_), http_date(), request_.id, framing,
        connection_.keep_alive_ ? "keep-alive" : "close");
    if (status_ != 204) text.append("Content-Type: ").append(content_type_).append("\r\n");
    std::vector<Header> headers = headers_;
    if (request_.rate_limit)
      for (Header& header : request_.rate_limit->headers(now_ns())) headers.push_back(std::move(header));
    for (const Header& header : headers) {
      check(header.value.find_first_of("\r\n") == std::string::npos, "a header value is one line");
      text.append(header.name).append(": ").append(header.value).append("\r\n");
    }
    return text.append("\r\n");
  }

  Connection& connection_;
  const Request& request_;
  Signal signal_;
  Interruption interruption_ = Interruption::none;
  bool streaming_ = false;
  bool sent_all_ = false;  // the last write reached the kernel
  bool truncated_ = false;
  bool completed_ = false;  // on_complete was called already
  bool hold_next_ = false;
  std::string held_;  // goes out with what is sent next
  std::string error_;
  int64_t bytes_sent_ = 0;
};

// ---- the connection

Connection::Connection(ServerState& state, std::unique_ptr<Stream> stream)
    : state_(state), stream_(std::move(stream)), watcher_ended_(stream_->executor()) {
  state_.connections.insert(this);
  boost::system::error_code ignored;
  const asio::ip::tcp::endpoint peer = stream_->socket().remote_endpoint(ignored);
  peer_ = fmt::format("{}:{}", peer.address().to_string(), peer.port());
  stream_->socket().set_option(asio::ip::tcp::no_delay(true), ignored);
  notice_dead_peer(stream_->socket().native_handle());
}

Connection::~Connection() { state_.connections.erase(this); }

asio::awaitable<void> Connection::run() {
  keep_alive_ = co_await handshake();
  while (keep_alive_ && stream_->is_open()) {
    Request request;
    Parser parser;
    const bool arrived = co_await read_header(request, parser);
    if (!arrived) break;
    co_await serve(request, parser);
  }
  co_await linger();
}

// A client gets as long for it as for a header.
asio::awaitable<bool> Connection::handshake() {
  wait_for(Waiting::reading, state_.options.timeouts.header);
  const bool good = co_await stream_->handshake();
  waiting_ = Waiting::nothing;
  body_read_ = body_read_ && good;
  if (!good && state_.options.on_handshake_failure) state_.options.on_handshake_failure();
  co_return good;
}

void Connection::wait_for(Waiting what, milliseconds at_most) {
  waiting_ = what;
  deadline_ = SteadyClock::now() + at_most;
}

void Connection::check_deadline(SteadyClock::time_point now) {
  start_watching();
  if (waiting_ == Waiting::nothing || now < deadline_) return;
  timed_out_ = true;
  if (waiting_ == Waiting::reading)
    stream_->cancel();
  else
    close();
}

void Connection::interrupt(Interruption interruption) {
  if (exchange_) exchange_->interrupt(interruption);
}

void Connection::end_revoked() {
  if (!exchange_ || exchange_->request().key_name.empty()) return;
  const auto keys = state_.keys.keys();
  const bool known = std::any_of(keys.begin(), keys.end(), [&](const ApiKey& key) {
    return key.name == exchange_->request().key_name && key.digest == exchange_->request().key_digest;
  });
  if (!known) exchange_->interrupt(Interruption::key_revoked);
}

// Nobody else will write any more, and this is not waited for. A peer that does not read has no room for it.
void Connection::last_words(const Error& error) {
  keep_alive_ = false;
  if (exchange_ && exchange_->owes_completion()) {
    end_with(exchange_->last_words(error));
    if (state_.options.on_complete) state_.options.on_complete(exchange_->request(), exchange_->completion());
    exchange_->completed();
    interrupt(Interruption::client_gone);
  } else if (!exchange_) {
    Request request;
    request.id = request_id({});
    end_with(Exchange(*this, request).last_words(error));
  }
}

void Connection::end_with(std::string bytes) {
  last_words_ = std::move(bytes);
  if (waiting_ == Waiting::writing) return;
  if (stream_->write_now(last_words_) > 0)
    ::shutdown(stream_->socket().native_handle(), SHUT_WR);
  else if (exchange_)
    asio::co_spawn(stream_->executor(), stream_->write_some(last_words_), asio::detached);
}

void Connection::close() { stream_->close(); }

asio::awaitable<bool> Connection::read_more() {
  const size_t bytes = co_await stream_->read_some(buffer_.room(kReadBytes), kReadBytes);
  buffer_.received(bytes);
  co_return bytes > 0;
}

asio::awaitable<bool> Connection::write_all(std::string_view bytes) {
  fault_point("http_write");
  while (!bytes.empty() && stream_->is_open()) {
    size_t sent = stream_->write_now(bytes);
    if (sent == 0) {
      wait_for(Waiting::writing, state_.options.timeouts.write_stall);
      sent = co_await stream_->write_some(bytes);
      waiting_ = Waiting::nothing;
    }
    if (sent == 0) co_return false;
    bytes.remove_prefix(sent);
  }
  co_return bytes.empty();
}

// False: the connection ends here, without a request or after a refusal.
asio::awaitable<bool> Connection::read_header(Request& request, Parser& parser) {
  const Timeouts& timeouts = state_.options.timeouts;
  wait_for(Waiting::reading, std::exchange(fresh_, false) ? timeouts.header : timeouts.idle);
  bool open = true;
  if (unread().empty()) open = co_await read_more();
  if (!open) co_return false;
  wait_for(Waiting::reading, timeouts.header);
  if (unread().starts_with("\r\n")) buffer_.consume(2);  // some clients send one too many after a body

  HeaderScan scan;
  std::optional<Error> fault;
  request.id = request_id({});
  request.peer = peer_;
  while (!fault) {
    const HeaderScan::Result result = scan.scan(unread());
    if (result == HeaderScan::Result::complete) break;
    if (result == HeaderScan::Result::malformed)
      fault = http_error("invalid_http", "the request header is malformed");
    if (result == HeaderScan::Result::too_large)
      fault = http_error("headers_too_large",
                         fmt::format("the request header must have at most {} bytes", limits::kHeaderBytes));
    if (fault) continue;
    open = co_await read_more();
    if (open) continue;
    if (!timed_out_) co_return false;
    fault = http_error("request_timeout", "the request header did not arrive in time");
  }
  waiting_ = Waiting::nothing;
  request.received_ns = now_ns();
  if (!fault) {
    boost::system::error_code error;
    parser.body_limit(boost::none);  // known with the route
    parser.header_limit(static_cast<uint32_t>(limits::kHeaderBytes));
    parser.eager(false);
    parser.put(asio::buffer(unread().data(), scan.size()), error);
    buffer_.consume(scan.size());
    if (error || !parser.is_header_done())
      fault = http_error("invalid_http", "the request header is malformed: " + error.message());
  }
  if (fault) {
    body_read_ = false;
    co_await refuse(request, *fault);
    co_return false;
  }
  co_return true;
}

// Answers what did not become a request.
asio::awaitable<void> Connection::refuse(Request& request, const Error& error) {
  keep_alive_ = false;
  Exchange exchange(*this, request);
  begin_request(exchange);
  co_await conclude(exchange, error);
  finish_request(request, exchange);
}

// Sends the end of the answer. Even if that throws, the request is counted and the connection ends.
asio::awaitable<void> Connection::conclude(Exchange& exchange, std::optional<Error> failure) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    try {
      if (failure)
        co_await exchange.fail(*failure);
      else
        co_await exchange.finish();
      co_return;
    } catch (const std::exception& error) {
      failure = make_error(ErrorCode::internal, "{}", error.what());
      keep_alive_ = false;
    }
  }
  close();
}

asio::awaitable<void> Connection::serve(Request& request, Parser& parser) {
  http_1_0_ = parser.version < 11;
  keep_alive_ = parser.keep_alive();
  request.method = parser.method;
  request.headers = std::move(parser.headers);
  request.id = request_id(request.header("x-request-id"));
  framing_ = body_framing(request.headers);
  body_read_ = !framing_.chunked && framing_.content_length == 0;

  Exchange exchange(*this, request);
  begin_request(exchange);
  std::optional<Error> failure;
  try {
    const bool target_ok = split_target(parser.target, request);
    if (!framing_.fault.empty()) throw http_error("invalid_http", framing_.fault);
    if (!target_ok) throw http_error("invalid_http", "the request target must be a path");
    if (static_cast<int64_t>(request.headers.size()) > limits::kHeaderFields)
      throw http_error("headers_too_large",
                       fmt::format("at most {} header fields are allowed", limits::kHeaderFields));
    if (!http_1_0_ && request.header("host").empty())
      throw http_error("invalid_http", "the Host header is missing");
    co_await answer(exchange, request, parser);
  } catch (const Error& error) {
    failure = error;
  } catch (const std::exception& error) {
    failure = make_error(ErrorCode::internal, "{}", error.what());
  }
  if (!failure && exchange.interruption() == Interruption::key_revoked)
    failure = Error(ErrorCode::unauthenticated, "the API key was revoked").with_reason("invalid_api_key");
  if (!failure && !exchange.answered()) failure = Error(ErrorCode::internal, "the handler sent no answer");
  const bool untrusted = failure && failure->reason() == "invalid_http";
  if (!body_read_ || untrusted || state_.draining) keep_alive_ = false;
  co_await conclude(exchange, std::move(failure));
  if (exchange.interruption() == Interruption::client_gone) keep_alive_ = false;
  finish_request(request, exchange);
}

void Connection::begin_request(Exchange& exchange) {
  exchange_ = &exchange;
  ++state_.requests_in_flight;
  if (state_.options.on_request) state_.options.on_request();
}

void Connection::finish_request(const Request& request, Exchange& exchange) {
  exchange_ = nullptr;
  since_ = SteadyClock::now();
  state_.body_bytes -= static_cast<int64_t>(request.body.size());
  --state_.requests_in_flight;
  if (state_.options.on_complete && exchange.owes_completion())
    state_.options.on_complete(request, exchange.completion());
  if (state_.on_request_end) state_.on_request_end();
}

asio::awaitable<void> Connection::answer(Exchange& exchange, Request& request, Parser& parser) {
  const bool bare_1_0 = http_1_0_ && request.header("host").empty() && request.header("origin").empty();
  if (!bare_1_0) check_browser_rules(request, state_.hosts, state_.options.allowed_origins);
  std::vector<Header> for_browser = cors_headers(request, state_.options.allowed_origins);
  const bool preflight = !for_browser.empty() && is_preflight(request);
  for (Header& header : for_browser) exchange.set_header(std::move(header.name), std::move(header.value));
  if (preflight) co_return exchange.send(204, "");
  std::optional<Error> lookup_failure;
  const Route* route = nullptr;
  try {
    route = &find_route(state_.routes, request);
  } catch (const Error& error) {
    lookup_failure = error;
  }
  authorize(route, request);
  if (request.method == Method::options) {
    const std::string methods = allowed_methods(state_.routes, request.path);
    if (!methods.empty()) {
      exchange.set_header("Allow", methods);
      co_return exchange.send(204, "");
    }
  }
  if (lookup_failure) throw *lookup_failure;
  if (state_.draining && route->spec.admission == Admission::while_serving) {
    exchange.set_header("Retry-After", "5");
    exchange.set_header("retry-after-ms", "5000");
    throw Error(ErrorCode::unavailable, "the server is shutting down").with_reason("draining");
  }
  limit_rate(*route, request, exchange);
  if (route->admit) route->admit(request, exchange);
  if (!body_read_ && !route->spec.refuses) co_await read_body(request, parser);
  co_await run_handler(*route, request, exchange);
}

// Throws 401 and 403. What has no route, or not with that method, needs any key: who has none learns nothing of the table.
void Connection::authorize(const Route* route, Request& request) const {
  const bool options = request.method == Method::options;
  const AuthPolicy policy = route     ? route->spec.auth
                            : options ? path_policy(state_.routes, request.path)
                                      : AuthPolicy::deny;
  const bool open =
      policy == AuthPolicy::open || (policy == AuthPolicy::metrics && state_.options.metrics_open);
  if (open) return;
  if (state_.keys.empty()) request.rate_limit = state_.rate_limits.find("");
  if (state_.keys.empty()) return;
  const ApiKey& key = state_.keys.authenticate(request);
  request.key_name = key.name;
  request.key_digest = key.digest;
  request.rate_limit = state_.rate_limits.find(key.name);
  if (!route || key.scopes.has(required_scope(policy))) return;
  throw make_error(ErrorCode::permission_denied,
                   "this needs an API key with the scope \"{}\"; \"{}\" has not",
                   scope_name(required_scope(policy)), key.name)
      .with_reason("insufficient_scope");
}

// A request for work counts against its key, also if it turns out to be a bad one.
void Connection::limit_rate(const Route& route, Request& request, Exchange& exchange) const {
  if (!request.rate_limit || route.spec.admission != Admission::while_serving) return;
  require(request.rate_limit->take_request(now_ns()), exchange);
}

asio::awaitable<void> Connection::read_body(Request& request, Parser& parser) {
  fault_point("http_read");
  const int64_t limit = request.route->body_bytes;
  const Error too_large =
      http_error("request_too_large", fmt::format("the request body must have at most {} bytes", limit));
  if (framing_.content_length > static_cast<size_t>(limit) || (limit == 0 && framing_.chunked))
    throw too_large;
  if (!request.route->any_content && !is_json(request.header("content-type")))
    throw http_error("unsupported_media_type",
                     fmt::format("Content-Type must be application/json, got \"{:.100}\"",
                                 request.header("content-type")));
  if (request.header("expect") == "100-continue" && unread().empty())
    co_await write_all("HTTP/1.1 100 Continue\r\n\r\n");

  parser.body_limit(static_cast<uint64_t>(limit));
  parser.eager(true);
  int64_t counted = 0;
  wait_for(Waiting::reading, state_.options.timeouts.body);
  while (!parser.is_done()) {
    boost::system::error_code error;
    const std::string_view bytes = unread();
    const size_t used = parser.put(asio::buffer(bytes.data(), bytes.size()), error);
    buffer_.consume(used);
    const int64_t size = static_cast<int64_t>(parser.body.size());
    state_.body_bytes += size - std::exchange(counted, size);
    std::optional<Error> fault;
    if (error == http::error::body_limit)
      fault = too_large;
    else if (error && error != http::error::need_more)
      fault = http_error("invalid_http", "the request body is malformed: " + error.message());
    else if (state_.body_bytes > limits::kBodyBytesTotal)
      fault = Error(ErrorCode::unavailable, "too many large requests at once").with_reason("server_busy");
    bool open = true;
    const bool starved = error == http::error::need_more || unread().empty();
    if (!fault && !parser.is_done() && starved) open = co_await read_more();
    if (!open) {
      if (!timed_out_) exchange_->interrupt(Interruption::client_gone);
      fault = http_error("request_timeout", "the request body did not arrive in time");
    }
    if (fault) {
      state_.body_bytes -= counted;
      waiting_ = Waiting::nothing;
      throw *fault;
    }
  }
  waiting_ = Waiting::nothing;
  body_read_ = true;
  request.body = std::move(parser.body);
}

asio::awaitable<void> Connection::run_handler(const Route& route, const Request& request,
                                              Exchange& exchange) {
  handling_ = true;
  std::exception_ptr thrown;
  try {
    co_await route.handle(request, exchange);
  } catch (...) {
    thrown = std::current_exception();
  }
  handling_ = false;
  if (watching_) stop_watching_.emit(asio::cancellation_type::terminal);
  while (watching_) co_await watcher_ended_.wait(milliseconds(1000));
  if (thrown) std::rethrow_exception(thrown);
}

// A watcher reads ahead, which is how a client's leaving is noticed: at once for a handler that waits on the response's signal, else
// when it has taken a tick of the server. Most answers are through before.
void Connection::start_watching() {
  if (!handling_ || watching_ || exchange_->interruption() == Interruption::client_gone) return;
  watching_ = true;
  asio::co_spawn(stream_->executor(), watch(),
                 asio::bind_cancellation_slot(stop_watching_.slot(), [this](std::exception_ptr) {
                   watching_ = false;
                   watcher_ended_.notify();
                 }));
}

// A client that sends more than a little ahead of its answer cannot be watched any more, so it is treated as gone.
asio::awaitable<void> Connection::watch() {
  bool open = true;
  while (open && handling_ && unread().size() < static_cast<size_t>(limits::kReadAheadBytes)) {
    open = co_await read_more();
  }
  if (handling_) interrupt(Interruption::client_gone);
}

// Says that nothing more comes, then reads a little on, so that the last answer is not lost to a reset.
asio::awaitable<void> Connection::linger() {
  boost::system::error_code error;
  if (!stream_->is_open()) co_return;
  wait_for(Waiting::reading, milliseconds(limits::kTlsCloseMilliseconds));
  co_await stream_->say_goodbye();
  waiting_ = Waiting::nothing;
  asio::ip::tcp::socket& socket =
      stream_->socket();  // what still comes is not looked at, so it need not be deciphered
  socket.shutdown(asio::ip::tcp::socket::shutdown_send, error);
  if (error || body_read_) co_return close();
  const auto end = SteadyClock::now() + milliseconds(1000);
  for (int reads = 0; reads < 64 && SteadyClock::now() < end; ++reads) {
    wait_for(Waiting::reading, milliseconds(1000));
    const auto [failure, bytes] =
        co_await socket.async_read_some(asio::buffer(buffer_.room(kReadBytes), kReadBytes), kAwait);
    if (failure) break;
  }
  waiting_ = Waiting::nothing;
  close();
}

}  // namespace neutrino::net
