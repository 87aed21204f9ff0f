#include "cloud/gateway.h"

#include <boost/asio/post.hpp>

#include <algorithm>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "cloud/gateway_request.h"
#include "cloud/gateway_state.h"

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {
namespace {

using net::Method;
using net::Request;
using net::Response;

constexpr std::string_view kEndpoints = "/endpoints/";
constexpr int64_t kTickNs = 250'000'000;

std::set<net::ClientAddress> addresses_of(const RouteTable& table) {
  std::set<net::ClientAddress> addresses;
  for (const EndpointRoute& endpoint : table.endpoints)
    for (const DeploymentRoute& deployment : endpoint.deployments)
      for (const ReplicaRoute& replica : deployment.replicas)
        addresses.insert({replica.host, static_cast<int>(replica.port)});
  return addresses;
}

net::KeyLimits per_minute(const UseLimits& limits) {
  return {.requests_per_minute = limits.requests_per_minute, .tokens_per_minute = limits.tokens_per_minute};
}

json::object model_object(std::string_view name) {
  return {{"id", name}, {"object", "model"}, {"created", 0}, {"owned_by", "neutrino"}};
}

struct EndpointPath {
  std::string name, rest;
};

// "/endpoints/{name}/v1/...": the name may be percent-encoded, what follows goes on as it is.
EndpointPath split_endpoint_path(std::string_view path) {
  path.remove_prefix(kEndpoints.size());
  const size_t slash = path.find('/');
  std::string name;
  if (slash == std::string_view::npos || !net::percent_decode(path.substr(0, slash), name) || name.empty())
    throw Error(ErrorCode::not_found, "there is no route for this path; it must be /endpoints/{name}/...")
        .with_reason("route_not_found");
  return {std::move(name), std::string(path.substr(slash))};
}

}  // namespace

struct Gateway::Impl {
  explicit Impl(GatewayOptions with);
  ~Impl() { state.client = nullptr; }

  net::ServerOptions server_options(net::ServerOptions options);
  std::vector<net::Route> routes();
  void admit(Request& request, Response& response);
  asio::awaitable<void> by_model(const Request& request, Response& response);
  asio::awaitable<void> by_path(const Request& request, Response& response);
  asio::awaitable<void> list_models(const Request& request, Response& response);
  asio::awaitable<void> show_model(const Request& request, Response& response);
  void take(std::shared_ptr<const RouteIndex> index);
  void take_endpoints(const std::shared_ptr<const RouteIndex>& index);
  void take_keys(const RouteIndex& index);
  void tick();
  GatewayReport make_report(int64_t now_ns) const;

  GatewayState state;
  mutable std::mutex mutex;
  GatewayReport newest;  // under the mutex
  int64_t ticked_ns = 0;
  uint64_t seed = system_entropy();
  net::HttpServer server;
  net::HttpClient client;  // after the server, whose executor it uses
};

Gateway::Impl::Impl(GatewayOptions with)
    : server(server_options(std::move(with.server))), client(server.executor()) {
  state.index = std::make_shared<RouteIndex>(RouteTable{});
  state.client = &client;
  state.executor = server.executor();
  state.usage = with.usage;
  state.on_wake = std::move(with.on_wake);
  state.wake_ping = with.wake_ping;
  server.set_routes(routes());
  server.on_stop([this] {
    for (net::ClientExchange* exchange : state.shadow_exchanges) exchange->cancel();
    client.stop();
  });
}

net::ServerOptions Gateway::Impl::server_options(net::ServerOptions options) {
  options.on_tick = [this, then = std::move(options.on_tick)] {
    tick();
    if (then) then();
  };
  return options;
}

// Keys are the route table's, so for the server below all of this is open; admit() asks for the key before a body is read.
std::vector<net::Route> Gateway::Impl::routes() {
  std::vector<net::Route> table;
  const auto check_key = [this](Request& q, Response& r) { admit(q, r); };
  const auto add = [&](Method method, std::string_view path, net::Handler handler, net::ErrorShape errors) {
    const bool bare = method == Method::get;
    table.push_back({{.method = method,
                      .path = path,
                      .auth = net::AuthPolicy::open,
                      .admission = net::Admission::while_serving,
                      .body_bytes = bare ? 0 : limits::kBodyBytes,
                      .errors = errors,
                      .any_content = true},
                     std::move(handler),
                     check_key});
  };
  table.push_back({{.method = Method::get, .path = "/health", .auth = net::AuthPolicy::open},
                   [](const Request&, Response& response) -> asio::awaitable<void> {
                     response.send(200, R"({"status":"ok"})");
                     co_return;
                   }});
  add(
      Method::get, "/v1/models", [this](const Request& q, Response& r) { return list_models(q, r); },
      net::ErrorShape::openai);
  add(
      Method::get, "/v1/models/{path...}", [this](const Request& q, Response& r) { return show_model(q, r); },
      net::ErrorShape::openai);
  const net::Handler by_model_handler = [this](const Request& q, Response& r) { return by_model(q, r); };
  const net::Handler by_path_handler = [this](const Request& q, Response& r) { return by_path(q, r); };
  add(Method::post, "/v1/messages", by_model_handler, net::ErrorShape::anthropic);
  add(Method::post, "/v1/messages/{path...}", by_model_handler, net::ErrorShape::anthropic);
  for (const Method method : {Method::post, Method::get, Method::put, Method::patch, Method::delete_}) {
    add(method, "/v1/{path...}", by_model_handler, net::ErrorShape::openai);
    add(method, "/endpoints/{path...}", by_path_handler, net::ErrorShape::openai);
  }
  return table;
}

void Gateway::Impl::admit(Request& request, Response& response) {
  const KeyRoute& key = authenticate(*state.index, request);
  take_request(state.keys.at(key.id)->rate, response);
}

asio::awaitable<void> Gateway::Impl::by_model(const Request& request, Response& response) {
  GatewayRequest one(state, request, response);
  co_await one.run("", request.path);
}

asio::awaitable<void> Gateway::Impl::by_path(const Request& request, Response& response) {
  EndpointPath path = split_endpoint_path(request.path);
  GatewayRequest one(state, request, response);
  co_await one.run(std::move(path.name), std::move(path.rest));
}

asio::awaitable<void> Gateway::Impl::list_models(const Request& request, Response& response) {
  const KeyRoute& key = authenticate_again(*state.index, request);
  json::array models;
  for (const std::string_view name : state.index->models(key)) models.push_back(model_object(name));
  response.send(200, to_text(json::object{{"object", "list"}, {"data", std::move(models)}}));
  co_return;
}

asio::awaitable<void> Gateway::Impl::show_model(const Request& request, Response& response) {
  const KeyRoute& key = authenticate_again(*state.index, request);
  std::string name;
  constexpr std::string_view kModels = "/v1/models/";
  const bool decoded = net::percent_decode(std::string_view(request.path).substr(kModels.size()), name);
  const RouteIndex::Model found = state.index->model(key.workspace, name);
  if (!decoded || !found.endpoint || !may_call(key, *found.endpoint, name))
    throw make_error(ErrorCode::not_found, "the model \"{:.200}\" does not exist", name)
        .with_reason("model_not_found");
  response.send(200, to_text(model_object(name)));
  co_return;
}

// ---- a new table

void Gateway::Impl::take(std::shared_ptr<const RouteIndex> index) {
  const std::set<net::ClientAddress> before = addresses_of(state.index->table()),
                                     now = addresses_of(index->table());
  for (const net::ClientAddress& address : before)
    if (!now.contains(address)) client.forget(address);
  state.index = index;
  take_keys(*index);
  take_endpoints(index);
  state.budgets.update(index->table().budgets, index->table().usage_sequence);
  const std::vector<GatewayRequest*> open(state.requests.begin(), state.requests.end());
  for (GatewayRequest* request : open) request->check_key();
}

void Gateway::Impl::take_endpoints(const std::shared_ptr<const RouteIndex>& index) {
  std::unordered_map<std::string, std::shared_ptr<EndpointState>> next;
  for (const EndpointRoute& route : index->table().endpoints) {
    const auto found = state.endpoints.find(route.id);
    const auto endpoint =
        found != state.endpoints.end() ? found->second : std::make_shared<EndpointState>(++seed, steady_ns());
    endpoint->route = std::shared_ptr<const EndpointRoute>(index, &route);
    endpoint->balancer.update(endpoint->route);
    endpoint->rate.set_limits(per_minute(route.limits), steady_ns());
    next.emplace(route.id, endpoint);
  }
  for (const auto& [id, endpoint] : state.endpoints) endpoint->gone = !next.contains(id);
  for (const auto& [id, endpoint] : state.endpoints)
    for (net::Signal* waiting : endpoint->waiting) waiting->notify();
  state.endpoints = std::move(next);
}

void Gateway::Impl::take_keys(const RouteIndex& index) {
  std::unordered_map<std::string, std::shared_ptr<KeyState>> next;
  for (const KeyRoute& route : index.table().keys) {
    const auto found = state.keys.find(route.id);
    const auto key = found != state.keys.end() ? found->second : std::make_shared<KeyState>(steady_ns());
    key->rate.set_limits(per_minute(route.limits), steady_ns());
    next.emplace(route.id, key);
  }
  state.keys = std::move(next);
}

GatewayReport Gateway::Impl::make_report(int64_t now_ns) const {
  GatewayReport report{.version = state.index->table().version};
  report.endpoints.reserve(state.endpoints.size());
  for (const auto& [id, endpoint] : state.endpoints) {
    report.endpoints.push_back({.endpoint = id,
                                .requests_in_flight = endpoint->requests_in_flight,
                                .tokens_in_flight = endpoint->tokens_in_flight,
                                .requests_held = static_cast<int64_t>(endpoint->waiting.size()),
                                .tokens_held = endpoint->tokens_held,
                                .requests_started = endpoint->requests_started,
                                .requests_per_minute = endpoint->arrivals.count(now_ns),
                                .time_to_first_token_p90_ms = endpoint->first_token.p90(now_ns),
                                .inter_token_latency_p90_ms = endpoint->inter_token.p90(now_ns),
                                .last_request_ms = endpoint->last_request_ms});
    for (const auto& [replica, load] : endpoint->balancer.replicas())
      if (load->requests > 0) report.replicas.push_back({replica, load->requests, load->tokens});
  }
  return report;
}

void Gateway::Impl::tick() {
  const int64_t now = steady_ns();
  if (now - ticked_ns < kTickNs) return;
  ticked_ns = now;
  const std::vector<GatewayRequest*> open(state.requests.begin(), state.requests.end());
  for (GatewayRequest* request : open) request->check_key();  // keys expire without a new table
  GatewayReport report = make_report(now);
  const std::lock_guard lock(mutex);
  newest = std::move(report);
}

Gateway::Gateway(GatewayOptions options) : impl_(new Impl(std::move(options))) {}
Gateway::~Gateway() = default;

void Gateway::set_routes(RouteTable table) {
  auto index = std::make_shared<const RouteIndex>(std::move(table));
  asio::post(impl_->server.executor(), [impl = impl_.get(), index = std::move(index)] { impl->take(index); });
}

GatewayReport Gateway::report() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->newest;
}

void Gateway::listen() { impl_->server.listen(); }
int Gateway::port() const { return impl_->server.port(); }
void Gateway::run() { impl_->server.run(); }
void Gateway::drain(std::chrono::milliseconds grace) { impl_->server.drain(grace); }
net::HttpServer& Gateway::server() { return impl_->server; }

}  // namespace neutrino::cloud
