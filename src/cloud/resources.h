// What the reconciler works on: deployments, and the replicas that they have. Plain rows; what they mean is in reconciler.h.
//
// An endpoint is a name with a URL. Its deployments share its requests by weight; each is a template of which so many replicas
// should run. A change of the template is a new revision, to which the replicas are moved one by one.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/fields.h"

namespace neutrino::cloud {

// How one replica is made.
struct ReplicaTemplate {
  std::vector<std::string> command;      // with "{host}", "{port}" and kOwnProgram as in a ReplicaSpec
  std::vector<std::string> environment;  // "NAME=value"
  std::vector<std::string> secrets;      // "NAME=secret's name": their values come when it is started
  std::string ready_path;                // asked with GET until it answers; empty: neutrino serve's
  std::string shape;                     // for metering
  std::string working_directory;         // empty: the provider's choice
  int64_t memory_bytes = 0;  // that placement finds for it and that it is held to; 0: not known, no limit
  double cores = 0;          // likewise, of processor time
  int64_t drain_timeout_ms = 300'000;  // for its streams to end, before it is stopped
  int64_t stop_grace_ms = 10'000;      // from SIGTERM to SIGKILL
  static constexpr auto fields() {
    using T = ReplicaTemplate;
    return std::tuple(field("command", &T::command), field("environment", &T::environment),
                      field("secrets", &T::secrets), field("ready_path", &T::ready_path),
                      field("shape", &T::shape), field("working_directory", &T::working_directory),
                      field("memory_bytes", &T::memory_bytes), field("cores", &T::cores),
                      field("drain_timeout_ms", &T::drain_timeout_ms),
                      field("stop_grace_ms", &T::stop_grace_ms));
  }
};

struct RolloutPolicy {
  int64_t surge_max = 1;        // replicas beyond the wanted number while it goes on
  int64_t unavailable_max = 0;  // that may be missing of it; not both 0
  bool paused = false;          // replicas stay at the revision that they have
  static constexpr auto fields() {
    return std::tuple(field("surge_max", &RolloutPolicy::surge_max),
                      field("unavailable_max", &RolloutPolicy::unavailable_max),
                      field("paused", &RolloutPolicy::paused));
  }
};

struct Deployment {
  std::string
      id;  // lower-case letters, digits and dashes, at most kDeploymentIdMax: its replicas' ids begin with it
  std::string endpoint;
  std::string workspace;
  int64_t replicas = 0;       // wanted: the operator's number, or the autoscaler's
  int64_t revision = 1;       // of the template
  int64_t replicas_made = 0;  // ever: the next one's id
  ReplicaTemplate replica_template;
  RolloutPolicy rollout;
  static constexpr auto fields() {
    using D = Deployment;
    return std::tuple(field("id", &D::id, {.key = true, .immutable = true}), field("endpoint", &D::endpoint),
                      field("workspace", &D::workspace), field("replicas", &D::replicas),
                      field("revision", &D::revision, {.read_only = true}),
                      field("replicas_made", &D::replicas_made, {.read_only = true}),
                      field("template", &D::replica_template), field("rollout", &D::rollout));
  }
};
inline constexpr int64_t kDeploymentIdMax = 40;

// What is wanted of a replica. It only moves to the right, but that a replica which is not drained yet may be taken back.
enum class ReplicaGoal : uint8_t { run, drain, stop };
constexpr std::array<std::string_view, 3> enum_names(ReplicaGoal) { return {"run", "drain", "stop"}; }

// What was seen of it.
enum class ReplicaState : uint8_t {
  pending,  // to be started, or to be started again when retry_ms has come
  loading,  // its process runs and cannot serve yet
  ready,
  not_ready,  // has served, and says that it cannot now
  stopping,
  unknown,  // its node does not answer: it may serve very well
};
constexpr std::array<std::string_view, 6> enum_names(ReplicaState) {
  return {"pending", "loading", "ready", "not_ready", "stopping", "unknown"};
}

struct Replica {
  std::string id;
  std::string deployment;
  std::string endpoint;  // the deployment's, as is the next
  std::string workspace;
  std::string node;
  int64_t revision = 0;
  int64_t generation = 1;  // a restart is the next one
  int64_t seen = 0;        // the last generation that the provider showed
  ReplicaGoal goal = ReplicaGoal::run;
  ReplicaState state = ReplicaState::pending;
  std::string reason;  // provider.h's reasons
  std::string message;
  std::string host;
  int64_t port = 0;
  ReplicaTemplate replica_template;  // as it was when the replica was made
  int64_t created_ms = 0;            // Unix time, as all that follow
  int64_t ready_ms = 0;              // since when it has been ready; 0: it is not
  int64_t drain_ms = 0;              // when draining began
  int64_t retry_ms = 0;              // not started again before
  int64_t failures = 0;              // in a row
  static constexpr auto fields() {
    using R = Replica;
    return std::tuple(field("id", &R::id, {.key = true}), field("deployment", &R::deployment),
                      field("endpoint", &R::endpoint), field("workspace", &R::workspace),
                      field("node", &R::node), field("revision", &R::revision),
                      field("generation", &R::generation), field("seen", &R::seen), field("goal", &R::goal),
                      field("state", &R::state), field("reason", &R::reason), field("message", &R::message),
                      field("host", &R::host), field("port", &R::port),
                      field("template", &R::replica_template), field("created_ms", &R::created_ms),
                      field("ready_ms", &R::ready_ms), field("drain_ms", &R::drain_ms),
                      field("retry_ms", &R::retry_ms), field("failures", &R::failures));
  }
};

// Something that happened, in one sentence, to a deployment or one of its replicas.
struct Event {
  int64_t at_ms = 0;  // Unix time
  std::string deployment;
  std::string replica;  // empty: the deployment itself
  std::string reason;   // "NoCapacity", "Scaled"
  std::string message;
  static constexpr auto fields() {
    return std::tuple(field("at_ms", &Event::at_ms), field("deployment", &Event::deployment),
                      field("replica", &Event::replica), field("reason", &Event::reason),
                      field("message", &Event::message));
  }
};

}  // namespace neutrino::cloud
