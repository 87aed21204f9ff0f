#include "cloud/gateway_request.h"

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "cloud/gateway_headers.h"

namespace neutrino::cloud {
namespace {

using net::ClientFault;
using net::Interruption;
using std::chrono::milliseconds;

constexpr int64_t kNsPerMs = 1'000'000;
constexpr int64_t kAskWakeNs = 1'000'000'000;
constexpr milliseconds kRetryMin{100}, kRetryMax{2000};  // between looks at replicas that have just failed

Error busy(std::string message, std::string reason) {
  return Error(ErrorCode::resource_exhausted, std::move(message)).with_reason(std::move(reason));
}

}  // namespace

GatewayRequest::GatewayRequest(GatewayState& state, const net::Request& request, net::Response& response)
    : state_(state), request_(request), response_(response), index_(state.index), began_ns_(steady_ns()) {
  key_ = &authenticate_again(*index_, request);  // the body may have taken a while
  key_state_ = state_.keys.at(key_->id);
  place_ = state_.requests.insert(state_.requests.end(), this);
  response_.on_interruption = [this] {
    if (upstream_) upstream_->cancel();
  };
}

GatewayRequest::~GatewayRequest() {
  response_.on_interruption = nullptr;
  state_.requests.erase(place_);
  settle();
  if (key_counted_) --key_state_->open;
  if (endpoint_counted_) --endpoint_->open;
}

asio::awaitable<void> GatewayRequest::run(std::string endpoint, std::string path) {
  path_ = std::move(path);
  is_json_ = !request_.body.empty() && is_json_type(request_.header("content-type"));
  if (is_json_) body_.emplace(request_.body);
  find_endpoint(endpoint);
  read_needs();
  take_limits();
  prepare();
  for (;;) {
    const Pick pick = co_await find_replica();
    const bool answered = co_await attempt(pick);
    if (answered) co_return;
  }
}

void GatewayRequest::check_key() {
  if (revoked_ || is_valid(*state_.index, request_)) return;
  revoked_ = true;
  response_.signal().notify();
  if (upstream_) upstream_->cancel();
}

void GatewayRequest::throw_if_ended() {
  if (revoked_)
    throw Error(ErrorCode::unauthenticated, "the API key was revoked or has expired")
        .with_reason("invalid_api_key");
  if (response_.interruption() == Interruption::client_gone)
    throw Error(ErrorCode::cancelled, "the client left");
  if (response_.interruption() == Interruption::shutdown)
    throw Error(ErrorCode::unavailable, "the gateway is shutting down").with_reason("draining");
}

// ---- which replica

PickRequest GatewayRequest::pick_request() const {
  PickRequest request{.prefix = prefix_, .sticky = sticky_, .tried = tried_, .now_ns = steady_ns()};
  if (endpoint_->route->policy == "header") request.replica = request_.header("x-neutrino-replica");
  return request;
}

asio::awaitable<Pick> GatewayRequest::find_replica() {
  throw_if_ended();
  if (const auto pick = endpoint_->balancer.pick(pick_request())) co_return *pick;
  co_return co_await hold();
}

void GatewayRequest::refuse_to_hold() {
  const EndpointRoute& route = *endpoint_->route;
  response_.set_header("Retry-After", "5");
  if (endpoint_->gone)
    throw Error(ErrorCode::not_found, "this endpoint was removed").with_reason("model_not_found");
  if (route.paused)
    throw make_error(ErrorCode::unavailable, "endpoint {} is paused", route.name)
        .with_reason("endpoint_paused");
  if (static_cast<int64_t>(endpoint_->waiting.size()) >= route.held_max ||
      state_.held >= limits::kHeldRequestsTotal)
    throw busy(fmt::format("too many requests wait for endpoint {}", route.name), "queue_full");
}

// Waits for a table with a replica. Those that have failed are looked at again after a while: they may be back.
asio::awaitable<Pick> GatewayRequest::hold() {
  refuse_to_hold();
  const int64_t since = steady_ns();
  if (!was_held_) held_until_ns_ = since + endpoint_->route->wake_timeout_ms * kNsPerMs;
  was_held_ = true;
  const int64_t tokens = prompt_tokens_ + output_tokens_;
  struct Waiting {
    GatewayState& state;
    EndpointState& endpoint;
    int64_t tokens;
    std::list<net::Signal*>::iterator place;
    ~Waiting() { endpoint.waiting.erase(place), endpoint.tokens_held -= tokens, --state.held; }
  };
  ++state_.held;
  endpoint_->tokens_held += tokens;
  const Waiting waiting{state_, *endpoint_, tokens,
                        endpoint_->waiting.insert(endpoint_->waiting.end(), &response_.signal())};
  int64_t said_ns = since;
  milliseconds retry = kRetryMin;
  int64_t look_again_ns = since + retry.count() * kNsPerMs;
  for (;;) {
    const int64_t now = steady_ns();
    if (now >= held_until_ns_) {
      throw make_error(ErrorCode::unavailable, "endpoint {} had no ready replica in {} s",
                       endpoint_->route->name, endpoint_->route->wake_timeout_ms / 1000)
          .with_reason("endpoint_not_ready");
    }
    if (state_.on_wake && now - endpoint_->wake_asked_ns >= kAskWakeNs) {
      endpoint_->wake_asked_ns = now;
      state_.on_wake(endpoint_->route->id);
    }
    const milliseconds left((held_until_ns_ - now) / kNsPerMs + 1);
    const milliseconds pause = std::min(left, std::min(retry, state_.wake_ping));
    co_await response_.signal().wait(pause);
    throw_if_ended();
    if (endpoint_->gone || endpoint_->route->paused) refuse_to_hold();
    if (steady_ns() >= look_again_ns) {
      tried_.clear();
      look_again_ns = steady_ns() + retry.count() * kNsPerMs;
      retry = std::min(2 * retry, kRetryMax);
    }
    if (const auto pick = endpoint_->balancer.pick(pick_request())) {
      record_.queue_ms += (steady_ns() - since) / kNsPerMs;
      co_return *pick;
    }
    co_await say_waking(said_ns);
  }
}

// A stream hears that it is still waited for; its status is 200 from then on, and an error an event.
asio::awaitable<void> GatewayRequest::say_waking(int64_t& said_ns) {
  const int64_t now = steady_ns();
  if (!wants_events_ || now - said_ns < state_.wake_ping.count() * kNsPerMs) co_return;
  said_ns = now;
  if (!stream_begun_) {
    response_.set_header("Cache-Control", "no-cache");
    response_.set_header("X-Accel-Buffering", "no");
    stream_begun_ = true;
    co_await response_.begin_stream("text/event-stream; charset=utf-8");
  }
  co_await response_.write(": waking\n\n");
}

// ---- one replica

bool GatewayRequest::is_repeatable() const {
  const net::Method method = request_.method;
  if (method == net::Method::get || method == net::Method::head || method == net::Method::options)
    return true;
  return method == net::Method::post && is_computing(path_);
}

net::ClientRequest GatewayRequest::upstream_request(const DeploymentRoute& deployment,
                                                    std::string& body) const {
  net::ClientRequest result;
  result.method = request_.method == net::Method::head ? "GET" : net::method_name(request_.method);
  for (const net::Header& header : request_.headers)
    if (goes_upstream(header.name)) result.headers.push_back(header);
  result.headers.push_back({"X-Request-Id", request_.id});
  if (!deployment.api_key.empty())
    result.headers.push_back({"Authorization", "Bearer " + deployment.api_key});
  std::vector<RequestBody::Change> changes;
  if (body_ && !deployment.model.empty() && !is_adapter_)
    changes.push_back({"model", to_text(json::value(json::string(deployment.model)))});
  if (adds_limit_)
    changes.push_back({path_.ends_with("/responses") ? "max_output_tokens" : "max_tokens",
                       std::to_string(endpoint_->route->output_tokens_max)});
  if (adds_usage_) changes.push_back({"stream_options", R"({"include_usage":true})"});
  if (!changes.empty()) body = body_->with(std::move(changes));
  result.body = body.empty() ? std::string_view(request_.body) : std::string_view(body);
  return result;
}

void GatewayRequest::started(const Pick& pick) {
  const int64_t tokens = prompt_tokens_ + output_tokens_;
  endpoint_->balancer.started(pick, tokens, prefix_);
  ++endpoint_->requests_in_flight;
  endpoint_->tokens_in_flight += tokens;
  sent_ns_ = steady_ns();
  record_.deployment = pick.deployment->id;
  record_.replica = pick.replica->route.id;
  record_.input_tokens = prompt_tokens_;
  begun_record_ = true;
  if (!state_.usage) return;
  state_.usage->begin(record_);
  if (std::exchange(state_.flush_posted, true)) return;
  asio::post(state_.executor, [&state = state_] {  // with all that begin in this turn of the io thread
    state.flush_posted = false;
    state.usage->flush();
  });
}

void GatewayRequest::finished(const Pick& pick) {
  const int64_t tokens = prompt_tokens_ + output_tokens_;
  endpoint_->balancer.finished(pick, tokens);
  --endpoint_->requests_in_flight;
  endpoint_->tokens_in_flight -= tokens;
  note_replica_time();
}

// False: this replica did not answer, and another may be asked.
asio::awaitable<bool> GatewayRequest::attempt(const Pick& pick) {
  struct InFlight {
    GatewayRequest& request;
    const Pick& pick;
    ~InFlight() {
      request.upstream_ = nullptr;
      request.finished(pick);
    }
  };
  started(pick);
  const InFlight in_flight{*this, pick};
  const net::ClientTimeouts timeouts{.first_byte = milliseconds(endpoint_->route->first_byte_timeout_ms)};
  net::ClientExchange upstream(
      *state_.client, {pick.replica->route.host, static_cast<int>(pick.replica->route.port)}, timeouts);
  upstream_ = &upstream;
  if (state_.flush_posted)  // the journal has it first: what reached a replica is known, whoever is killed
    co_await asio::post(state_.executor, asio::use_awaitable);
  throw_if_ended();
  if (tried_.empty() && !was_held_) start_shadow();
  co_return co_await converse(pick, upstream);
}

asio::awaitable<bool> GatewayRequest::converse(const Pick& pick, net::ClientExchange& upstream) {
  std::string body;
  net::ClientRequest request = upstream_request(*pick.deployment, body);
  request.headers.push_back({kUsageIdHeader, record_.id});
  std::string target = path_;
  if (!request_.query.empty()) target.append("?").append(request_.query);
  request.target = target;
  const ClientFault fault = co_await upstream.send(request);
  throw_if_ended();
  if (fault == ClientFault::none && !is_elsewhere(upstream)) {
    const int status = upstream.status();
    endpoint_->balancer.outcome(pick, status < 500 || status == 503, steady_ns());
    co_await relay(upstream);
    if (upstream.fault() != ClientFault::none && !revoked_ && response_.interruption() == Interruption::none)
      endpoint_->balancer.outcome(pick, false, steady_ns());
    throw_if_ended();
    if (upstream.fault() != ClientFault::none)
      throw make_error(ErrorCode::unavailable, "the replica's answer was cut: {}",
                       client_fault_name(upstream.fault()))
          .with_reason("replica_failed");
    co_return true;
  }
  tried_.push_back(pick.replica);
  if (fault == ClientFault::none) {
    upstream.cancel();
    co_return false;
  }
  endpoint_->balancer.outcome(pick, false, steady_ns());
  const bool enough = static_cast<int64_t>(tried_.size()) >= limits::kGatewayAttempts;
  if (upstream.may_repeat(is_repeatable()) && !enough) co_return false;
  throw make_error(ErrorCode::unavailable, "the replica did not answer: {}", client_fault_name(fault))
      .with_reason("replica_failed");
}

// A replica that is starting, draining or full has done nothing; that is said to the client only where there is no other to ask.
bool GatewayRequest::is_elsewhere(const net::ClientExchange& upstream) {
  if (upstream.status() != 503 && upstream.status() != 429) return false;
  if (!is_repeatable() || static_cast<int64_t>(tried_.size()) + 1 >= limits::kGatewayAttempts)
    return was_held_ && is_repeatable();
  return was_held_ || endpoint_->balancer.pick(pick_request()).has_value();
}

}  // namespace neutrino::cloud
