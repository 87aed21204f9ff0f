// How an endpoint is, told from the rows that the controller keeps of it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "cloud/schema.h"
#include "store/transaction.h"

namespace neutrino::cloud {

struct DeploymentStatus {
  std::string name;
  int64_t revision = 0;
  int64_t replicas = 0;  // that there are and that are not on their way out
  int64_t ready = 0;
  int64_t updated = 0;  // of the revision
  std::string message;
  static constexpr auto fields() {
    using D = DeploymentStatus;
    return std::tuple(field("name", &D::name), field("revision", &D::revision),
                      field("replicas", &D::replicas), field("ready", &D::ready),
                      field("updated", &D::updated), field("message", &D::message));
  }
};

enum class EndpointState : uint8_t { ready, starting, idle, degraded, no_capacity, failed, paused };
constexpr std::array<std::string_view, 7> enum_names(EndpointState) {
  return {"Ready", "Starting", "Idle", "Degraded", "NoCapacity", "Failed", "Paused"};
}

struct EndpointStatus {
  EndpointState state = EndpointState::starting;
  int64_t wanted = 0;
  int64_t replicas = 0;
  int64_t ready = 0;
  std::string message;  // of what is wrong
  std::vector<DeploymentStatus> deployments;
  static constexpr auto fields() {
    using E = EndpointStatus;
    return std::tuple(field("state", &E::state),
                      field("wanted", &E::wanted, {.help = "replicas that there should be now"}),
                      field("replicas", &E::replicas), field("ready", &E::ready),
                      field("message", &E::message), field("deployments", &E::deployments));
  }
};

// Of a page of endpoints at once: in their order.
std::vector<EndpointStatus> endpoint_statuses(const Tables& tables, store::Transaction& transaction,
                                              const std::vector<Endpoint>& endpoints);

// Pure. `no_capacity`: the message of the last try to place a replica, if it failed for want of room.
EndpointStatus endpoint_status(const Endpoint& endpoint, const std::vector<Deployment>& deployments,
                               const std::vector<Replica>& replicas, const std::string& no_capacity);

}  // namespace neutrino::cloud
