// Copies of requests for a deployment that is only tried.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <utility>

#include "cloud/gateway_headers.h"
#include "cloud/gateway_request.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kShadowsMax = 256;

struct Shadow {
  std::shared_ptr<EndpointState> endpoint;
  Pick pick;
  net::ClientRequest request;
  std::string target, body, method;
  int64_t tokens = 0;
};

// What it answers is read and thrown away; nobody waits for it.
asio::awaitable<void> run_shadow(GatewayState& state, std::unique_ptr<Shadow> shadow) {
  net::ClientExchange exchange(
      *state.client, {shadow->pick.replica->route.host, static_cast<int>(shadow->pick.replica->route.port)});
  const auto place = state.shadow_exchanges.insert(state.shadow_exchanges.end(), &exchange);
  shadow->request.target = shadow->target;
  shadow->request.body = shadow->body;
  shadow->request.method = shadow->method;
  const net::ClientFault fault = co_await exchange.send(shadow->request);
  for (bool more = fault == net::ClientFault::none; more;) {
    const std::string_view piece = co_await exchange.read();
    more = !piece.empty();
  }
  const bool good = exchange.done() && exchange.status() < 500;
  state.shadow_exchanges.erase(place);
  shadow->endpoint->balancer.outcome(shadow->pick, good, steady_ns());
  shadow->endpoint->balancer.finished(shadow->pick, shadow->tokens);
  --state.shadows;
}

}  // namespace

void GatewayRequest::start_shadow() {
  if (state_.shadows >= kShadowsMax || !is_repeatable()) return;
  const auto pick = endpoint_->balancer.pick_shadow(pick_request());
  if (!pick) return;
  auto shadow = std::make_unique<Shadow>();
  shadow->endpoint = endpoint_;
  shadow->pick = *pick;
  shadow->request = upstream_request(*pick->deployment, shadow->body);
  if (shadow->body.empty()) shadow->body = request_.body;
  shadow->method = shadow->request.method;
  shadow->target = request_.query.empty() ? path_ : path_ + "?" + request_.query;
  shadow->tokens = prompt_tokens_ + output_tokens_;
  endpoint_->balancer.started(*pick, shadow->tokens, prefix_);
  ++state_.shadows;
  asio::co_spawn(state_.executor, run_shadow(state_, std::move(shadow)), asio::detached);
}

}  // namespace neutrino::cloud
