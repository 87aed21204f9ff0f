// From an endpoint as people wrote it to the deployments that the reconciler works on: pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cloud/endpoint.h"
#include "cloud/probes.h"
#include "cloud/resources.h"

namespace neutrino::cloud {

// How a replica of a model is started.
struct ServeProgram {
  std::vector<std::string> command;  // {kOwnProgram, "serve"}
};

using Shapes = std::map<std::string, Shape, std::less<>>;

std::string deployment_id(const Endpoint& endpoint, std::string_view deployment);

// The replicas' name of the model that they serve: what gateways write into requests. Empty: whatever the client wrote.
std::string served_name(const Endpoint& endpoint, const DeploymentSpec& deployment);

ReplicaTemplate replica_template(const Endpoint& endpoint, const DeploymentSpec& deployment,
                                 const Shapes& shapes, const ServeProgram& program);

// Does the endpoint's scaling decide how many replicas it has?
bool is_scaled(const DeploymentSpec& deployment);

// How many replicas each deployment gets, by name, when the endpoint should have `total`: shares by weight, each rounded up, so that
// who gets requests has a replica; one for copies; what is fixed is fixed. A paused endpoint has none.
std::map<std::string, int64_t> share_replicas(const Endpoint& endpoint, int64_t total);

ProbePlan probe_plan(const ReplicaTemplate& replica);

// In ReplicaTemplate::secrets, instead of a secret's name: the key under which the deployment's replicas answer.
inline constexpr std::string_view kReplicaKey = "@replica-key";

}  // namespace neutrino::cloud
