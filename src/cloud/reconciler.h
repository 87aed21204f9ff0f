// Makes what runs equal to what is wanted, again and again.
//
// tick(): look at the provider; compare with the rows; write down what follows (plan, a pure function); then tell the provider. It is level-triggered: nothing is
// remembered but the rows, and nothing is told to the provider that is not written down first, so a crash between any two lines is
// repaired by the next tick. What does not answer is left alone: a lost heartbeat ends nothing, and when many nodes are missing at once it is our view that is broken.
//
// Belongs to one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cloud/probes.h"
#include "cloud/provider.h"
#include "cloud/resources.h"

namespace neutrino::cloud {

struct ClusterState {
  std::map<std::string, Deployment> deployments;
  std::map<std::string, Replica> replicas;
};

// What is to be written down: whole rows.
struct Changes {
  std::vector<Deployment> deployments;  // whose replicas_made has grown
  std::vector<Replica> replicas;        // new or changed
  std::vector<std::string> gone;        // replicas whose rows go
  std::vector<Event> events;
  bool empty() const { return deployments.empty() && replicas.empty() && gone.empty() && events.empty(); }
};

// Where rows are kept. Returns when the changes are durable, all of them; throws an Error if none of them is.
class StateRows {
 public:
  virtual ~StateRows() = default;
  virtual void commit(const Changes& changes) = 0;
};

// What the gateways and the prober know.
struct ReplicaSignals {
  // Of a replica's generation; absent: not asked yet.
  std::function<std::optional<ProbeVerdict>(const std::string& id, int64_t generation)> verdict;
  std::function<double(const std::string& id)> tokens_in_flight;
  std::function<bool(const std::string& id)>
      is_idle;  // no gateway has a request there, nor an older view of the routes
  // Nobody needs the logs of a replica that is over any more. Absent: nobody ever does.
  std::function<bool(const std::string& id)> may_remove = {};
};

struct ReconcilerOptions {
  RestartPolicy restarts;
  int64_t node_grace_ms =
      300'000;  // a node is missing for so long before its replicas are made elsewhere; 0: never
  int64_t replaced_at_once_max = 3;  // of a missing node's replicas in a tick
  double missing_share_max = 0.3;    // of the nodes: when more are missing, nothing is replaced
  int64_t stray_grace_ms = 60'000;   // what runs without a row is stopped after so long
};

// What was seen in one look.
struct Observation {
  bool answered = false;  // the provider did; else there is nothing in here
  std::map<std::string, ObservedReplica> replicas;
  std::vector<NodeFacts> nodes;
};

// What is remembered from tick to tick, and may be lost at any time.
struct ReconcilerMemory {
  std::map<std::string, int64_t> missing_since_ms;  // nodes
  std::map<std::string, int64_t> stray_since_ms;    // replicas without a row
  std::map<std::string, std::string>
      last_message;  // of a deployment without room: an event is written when it changes
};

// The changes that follow from what was seen. Pure, but for `memory`.
Changes plan(const ClusterState& state, const Observation& seen, const ReplicaSignals& signals,
             const ReconcilerOptions& options, int64_t now_ms, ReconcilerMemory& memory);

class Reconciler {
 public:
  // Turns a replica's template and row into what a provider starts; adds secrets and the like.
  using Describe = std::function<ReplicaSpec(const Replica&)>;

  Reconciler(ClusterState state, StateRows& rows, Provider& provider, Describe describe,
             ReconcilerOptions options);

  // Throws what commit() throws; nothing was told to the provider then, and the next tick begins from the same rows.
  void tick(const ReplicaSignals& signals, int64_t now_ms);
  // A deployment as it is wanted from now on; its row is written already. Keeps replicas_made.
  void set(Deployment deployment);
  // Its replicas are drained and go; it may be forgotten, and its row removed, when replicas_of() is 0.
  void retire(const std::string& deployment);
  void forget(const std::string& deployment) { state_.deployments.erase(deployment); }
  int64_t replicas_of(const std::string& deployment) const;
  const ClusterState& state() const { return state_; }

 private:
  Observation look();
  void apply(const Changes& changes);
  void act(const Observation& seen, const ReplicaSignals& signals, int64_t now_ms);
  void act_on(const Replica& replica, const ObservedReplica* seen, const ReplicaSignals& signals,
              int64_t now_ms);
  void act_on_stray(const ObservedReplica& seen, int64_t now_ms);

  ClusterState state_;
  StateRows& rows_;
  Provider& provider_;
  Describe describe_;
  const ReconcilerOptions options_;
  ReconcilerMemory memory_;
};

}  // namespace neutrino::cloud
