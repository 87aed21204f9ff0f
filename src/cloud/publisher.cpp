#include "cloud/publisher.h"

#include <algorithm>
#include <utility>

#include "base/json.h"

namespace neutrino::cloud {
namespace {

TokenPrices prices_of(const Endpoint& endpoint, const Accounts& accounts) {
  const Price* found = nullptr;
  for (const DeploymentSpec& deployment : endpoint.deployments) {
    const auto price = accounts.prices.find(deployment.model);
    if (!found && price != accounts.prices.end()) found = &price->second;
  }
  const auto any = accounts.prices.find("*");
  if (!found && any != accounts.prices.end()) found = &any->second;
  if (!found) return {};
  return {.input = found->input, .cached_input = found->cached_input, .output = found->output};
}

EndpointRoute endpoint_route(const Endpoint& endpoint, const Accounts& accounts) {
  return {.id = endpoint.id,
          .workspace = endpoint.workspace,
          .name = endpoint.name,
          .aliases = endpoint.aliases,
          .adapters = endpoint.adapters,
          .policy = endpoint.policy,
          .sticky_header = endpoint.sticky_header,
          .limits = endpoint.limits,
          .prices = prices_of(endpoint, accounts),
          .output_tokens_max = endpoint.output_tokens_max,
          .held_max = endpoint.held_max,
          .wake_timeout_ms = endpoint.wake_timeout_ms,
          .first_byte_timeout_ms = endpoint.first_byte_timeout_ms,
          .paused = endpoint.paused};
}

// A replica gets requests while it is ready; one whose node is silent may serve very well, and the gateway sees for itself.
bool is_routed(const Replica& replica) {
  if (replica.goal == ReplicaGoal::stop || replica.port == 0) return false;
  return replica.state == ReplicaState::ready ||
         (replica.state == ReplicaState::unknown && replica.ready_ms > 0);
}

// Draining ones stay in the table, so that gateways go on saying what is still there.
bool is_draining(const Replica& replica) { return replica.goal == ReplicaGoal::drain; }

ReplicaRoute replica_route(const Replica& replica) {
  return {.id = replica.id, .host = replica.host, .port = replica.port, .draining = is_draining(replica)};
}

KeyRoute key_route(const KeyRow& key, const Accounts& accounts) {
  KeyRoute route{.id = key.id,
                 .workspace = key.workspace,
                 .member = key.member,
                 .digest = key.digest,
                 .inference = key.inference,
                 .revoked = key.revoked_ms != 0,
                 .expires_ms = key.expires_ms,
                 .models = key.models,
                 .limits = key.limits};
  const auto budgets = accounts.key_budgets.find(key.id);
  if (budgets != accounts.key_budgets.end()) route.budgets = budgets->second;
  return route;
}

}  // namespace

RouteTable make_route_table(const std::map<std::string, Endpoint>& endpoints, const ClusterState& state,
                            const Accounts& accounts,
                            const std::function<std::string(const std::string& deployment)>& replica_key) {
  std::map<std::string, std::vector<ReplicaRoute>> replicas;
  for (const auto& [id, replica] : state.replicas)
    if (is_routed(replica)) replicas[replica.deployment].push_back(replica_route(replica));
  RouteTable table;
  for (const auto& [id, endpoint] : endpoints) {
    EndpointRoute route = endpoint_route(endpoint, accounts);
    for (const DeploymentSpec& spec : endpoint.deployments) {
      const std::string deployment = deployment_id(endpoint, spec.name);
      route.deployments.push_back({.id = deployment,
                                   .model = served_name(endpoint, spec),
                                   .weight = spec.weight,
                                   .shadow_percent = spec.shadow_percent,
                                   .api_key = spec.model.empty() ? std::string() : replica_key(deployment),
                                   .replicas = std::move(replicas[deployment])});
    }
    table.endpoints.push_back(std::move(route));
  }
  for (const KeyRow& key : accounts.keys) table.keys.push_back(key_route(key, accounts));
  table.budgets = accounts.budgets;
  return table;
}

bool RouteBoard::publish(RouteTable table, std::map<std::string, int64_t> counted, int64_t now_ms) {
  auto next = std::make_shared<PublishedRoutes>();
  next->text = to_text(to_json(table, Show::all_fields));
  next->counted = std::move(counted);
  std::function<void()> listener;
  {
    const std::lock_guard lock(mutex_);
    if (newest_ && newest_->text == next->text) return false;
    next->version = std::max(now_ms * 1000, newest_ ? newest_->version + 1 : 0);
    newest_ = std::move(next);
    listener = listener_;
  }
  if (listener) listener();
  return true;
}

std::shared_ptr<const PublishedRoutes> RouteBoard::newest() const {
  const std::lock_guard lock(mutex_);
  return newest_;
}

int64_t RouteBoard::version() const {
  const std::lock_guard lock(mutex_);
  return newest_ ? newest_->version : 0;
}

void RouteBoard::on_publish(std::function<void()> listener) {
  const std::lock_guard lock(mutex_);
  listener_ = std::move(listener);
}

}  // namespace neutrino::cloud
