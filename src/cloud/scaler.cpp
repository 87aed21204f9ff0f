#include "cloud/scaler.h"

#include <algorithm>

namespace neutrino::cloud {
namespace {

// Not everything is scaled: where all deployments have a fixed number there is nothing to decide.
bool is_scaled_endpoint(const Endpoint& endpoint) {
  return !endpoint.paused && std::ranges::any_of(endpoint.deployments, [](const DeploymentSpec& deployment) {
    return !deployment.replicas && deployment.weight > 0;
  });
}

std::optional<OperatorAction> by_hand(const Endpoint& endpoint) {
  if (!endpoint.scaled_to) return std::nullopt;
  return OperatorAction{.replicas = *endpoint.scaled_to, .at_ms = endpoint.scaled_ms};
}

}  // namespace

int64_t Scaler::replicas(const std::string& endpoint) const {
  const auto found = states_.find(endpoint);
  return found == states_.end() ? 0 : found->second.replicas;
}

std::vector<Scaled> Scaler::decide_all(const std::map<std::string, Endpoint>& endpoints,
                                       const std::map<std::string, ScalingSample>& samples,
                                       const std::map<std::string, ReplicaCounts>& counts, int64_t now_ms,
                                       bool all) {
  std::vector<Scaled> changed;
  for (const auto& [id, endpoint] : endpoints) {
    const auto sample = samples.find(id);
    if ((!all && sample == samples.end()) || !is_scaled_endpoint(endpoint)) continue;
    const auto count = counts.find(id);
    State& state = states_[id];
    const ScalingDecision decision =
        decide(endpoint.scaling, state.memory,
               sample == samples.end() ? ScalingSample{.at_ms = now_ms} : sample->second,
               count == counts.end() ? ReplicaCounts{} : count->second, by_hand(endpoint));
    if (decision.replicas == state.replicas) continue;
    changed.push_back({id, state.replicas, decision.replicas, decision.reason});
    state.replicas = decision.replicas;
  }
  return changed;
}

}  // namespace neutrino::cloud
