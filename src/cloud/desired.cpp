#include "cloud/desired.h"

#include <cmath>

namespace neutrino::cloud {
namespace {

std::vector<std::string> command_of(const Endpoint& endpoint, const DeploymentSpec& deployment,
                                    const ServeProgram& program) {
  if (deployment.model.empty()) return deployment.command;
  std::vector<std::string> command = program.command;
  command.insert(command.end(), {deployment.model, "--host", "{host}", "--port", "{port}",
                                 "--served-model-name", endpoint.name});
  command.insert(command.end(), deployment.arguments.begin(), deployment.arguments.end());
  return command;
}

void add_environment(ReplicaTemplate& replica, const DeploymentSpec& deployment) {
  for (const EnvironmentVariable& variable : deployment.environment) {
    if (variable.secret.empty())
      replica.environment.push_back(variable.name + "=" + variable.value);
    else
      replica.secrets.push_back(variable.name + "=" + variable.secret);
  }
  if (!deployment.model.empty()) replica.secrets.push_back("NEUTRINO_API_KEY=" + std::string(kReplicaKey));
}

}  // namespace

std::string deployment_id(const Endpoint& endpoint, std::string_view deployment) {
  return endpoint.id + "-" + std::string(deployment);
}

std::string served_name(const Endpoint& endpoint, const DeploymentSpec& deployment) {
  return deployment.model.empty() ? std::string() : endpoint.name;
}

ReplicaTemplate replica_template(const Endpoint& endpoint, const DeploymentSpec& deployment,
                                 const Shapes& shapes, const ServeProgram& program) {
  ReplicaTemplate replica{.command = command_of(endpoint, deployment, program),
                          .ready_path = deployment.ready_path,
                          .shape = deployment.shape,
                          .memory_bytes = deployment.memory_bytes,
                          .cores = deployment.cores,
                          .drain_timeout_ms = deployment.drain_timeout_ms,
                          .stop_grace_ms = deployment.stop_grace_ms};
  add_environment(replica, deployment);
  const auto shape = shapes.find(deployment.shape);
  if (shape != shapes.end() && replica.memory_bytes == 0) replica.memory_bytes = shape->second.memory_bytes;
  if (shape != shapes.end() && replica.cores == 0) replica.cores = shape->second.cores;
  if (replica.memory_bytes == 0) replica.memory_bytes = deployment.memory_predicted_bytes;
  return replica;
}

bool is_scaled(const DeploymentSpec& deployment) { return !deployment.replicas && deployment.weight > 0; }

std::map<std::string, int64_t> share_replicas(const Endpoint& endpoint, int64_t total) {
  double weights = 0;
  for (const DeploymentSpec& deployment : endpoint.deployments)
    weights += static_cast<double>(deployment.weight);
  std::map<std::string, int64_t> shares;
  for (const DeploymentSpec& deployment : endpoint.deployments) {
    int64_t& share = shares[deployment.name];
    if (endpoint.paused) continue;
    if (deployment.replicas)
      share = *deployment.replicas;
    else if (deployment.weight > 0)
      share = static_cast<int64_t>(
          std::ceil(static_cast<double>(total) * static_cast<double>(deployment.weight) / weights));
    else if (deployment.shadow_percent > 0)
      share = total > 0 ? 1 : 0;
  }
  return shares;
}

ProbePlan probe_plan(const ReplicaTemplate& replica) {
  ProbePlan plan;
  if (replica.ready_path.empty()) return plan;
  plan.startup.path = plan.readiness.path = replica.ready_path;
  plan.liveness.path.clear();  // a program that we do not know may take long over an answer
  return plan;
}

}  // namespace neutrino::cloud
