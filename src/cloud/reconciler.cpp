#include "cloud/reconciler.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "cloud/placement.h"
#include "cloud/rollout.h"

namespace neutrino::cloud {
namespace {

class Plan {
 public:
  Plan(const ClusterState& state, const Observation& seen, const ReplicaSignals& signals,
       const ReconcilerOptions& options, int64_t now_ms, ReconcilerMemory& memory)
      : state_(state),
        seen_(seen),
        signals_(signals),
        options_(options),
        now_ms_(now_ms),
        memory_(memory),
        room_(seen.nodes) {}

  Changes make() {
    note_nodes();
    for (const auto& [id, replica] : state_.replicas) follow(replica);
    replace_what_is_lost();
    for (const auto& [id, replica] : replicas_)
      if (!is_over(replica)) room_.take(replica), of_[replica.deployment].push_back(&replica);
    for (const auto& [id, deployment] : state_.deployments) move(deployment);
    collect();
    return std::move(changes_);
  }

 private:
  void note_nodes();
  void follow(Replica replica);
  void follow_absent(Replica& replica);
  void follow_running(Replica& replica, const ObservedReplica& seen);
  void fail(Replica& replica, Reason reason, const std::string& message, int64_t ran_ms);
  void drain(Replica& replica);
  void replace_what_is_lost();
  bool is_over(const Replica& replica) const;
  void move(const Deployment& deployment);
  void make_replica(Deployment& deployment, int64_t revision);
  void collect();

  void show(Replica& replica, ReplicaState state, Reason reason, const std::string& message) {
    replica.state = state;
    replica.reason = reason_name(reason);
    replica.message = message;
    if (state != ReplicaState::ready && state != ReplicaState::unknown) replica.ready_ms = 0;
  }
  void event(const std::string& deployment, const std::string& replica, std::string_view reason,
             std::string message) {
    changes_.events.push_back({now_ms_, deployment, replica, std::string(reason), std::move(message)});
  }

  const ClusterState& state_;
  const Observation& seen_;
  const ReplicaSignals& signals_;
  const ReconcilerOptions& options_;
  const int64_t now_ms_;
  ReconcilerMemory& memory_;
  NodeRoom room_;
  std::set<std::string, std::less<>> missing_;
  std::map<std::string, Replica> replicas_;  // as they will be
  std::map<std::string, std::vector<const Replica*>> of_;
  Changes changes_;
};

void Plan::note_nodes() {
  for (const NodeFacts& node : seen_.nodes)
    if (node.phase == NodePhase::missing) missing_.insert(node.name);
  std::erase_if(memory_.missing_since_ms, [&](const auto& entry) { return !missing_.contains(entry.first); });
  for (const std::string& name : missing_) memory_.missing_since_ms.try_emplace(name, now_ms_);
}

// One replica's row, brought up to what was seen of it.
void Plan::follow(Replica replica) {
  const auto found = seen_.replicas.find(replica.id);
  const bool dark = !seen_.answered || missing_.contains(replica.node) ||
                    (found != seen_.replicas.end() && found->second.phase == ReplicaPhase::unknown);
  if (dark) {
    if (replica.seen > 0) show(replica, ReplicaState::unknown, Reason::unknown, "its node does not answer");
  } else if (found == seen_.replicas.end()) {
    follow_absent(replica);
  } else {
    follow_running(replica, found->second);
  }
  drain(replica);
  replicas_.emplace(replica.id, std::move(replica));
}

void Plan::follow_absent(Replica& replica) {
  if (replica.goal == ReplicaGoal::stop) {
    changes_.gone.push_back(replica.id);
    return;
  }
  if (replica.seen == replica.generation)
    fail(replica, Reason::system_error, "its node knows nothing of it any more", 0);
  else
    show(replica, ReplicaState::pending, replica.retry_ms > now_ms_ ? Reason::back_off : Reason::in_progress,
         replica.message);
}

void Plan::follow_running(Replica& replica, const ObservedReplica& seen) {
  if (seen.generation > replica.generation) replica.generation = seen.generation;  // our rows are a backup's
  if (seen.generation < replica.generation) {
    show(replica, ReplicaState::pending, replica.retry_ms > now_ms_ ? Reason::back_off : Reason::in_progress,
         replica.message);
    return;
  }
  replica.seen = seen.generation;
  replica.host = seen.host;
  replica.port = seen.port;
  switch (seen.phase) {
    case ReplicaPhase::accepted:
    case ReplicaPhase::starting:
      show(replica, ReplicaState::loading, Reason::in_progress, seen.message);
      return;
    case ReplicaPhase::stopping: show(replica, ReplicaState::stopping, Reason::stopped, seen.message); return;
    case ReplicaPhase::exited: {
      const int64_t ran_ms = seen.started_at_ms == 0 ? 0 : seen.finished_at_ms - seen.started_at_ms;
      if (replica.goal == ReplicaGoal::run) return fail(replica, seen.reason, seen.message, ran_ms);
      replica.goal = ReplicaGoal::stop;
      show(replica, ReplicaState::stopping, Reason::stopped, seen.message);
      return;
    }
    default: break;
  }
  const auto verdict = signals_.verdict(replica.id, replica.generation);
  if (!verdict) {  // nobody has asked it yet: it is what it was
    if (replica.state != ReplicaState::ready || replica.ready_ms == 0)
      show(replica, ReplicaState::loading, Reason::in_progress, seen.message);
  } else if (verdict->failed && replica.goal == ReplicaGoal::run) {
    fail(replica, verdict->reason, verdict->message, now_ms_ - seen.started_at_ms);
  } else if (verdict->ready) {
    if (replica.state != ReplicaState::ready || replica.ready_ms == 0) {
      replica.ready_ms = now_ms_;
      event(replica.deployment, replica.id, reason_name(Reason::ready),
            fmt::format("ready {} ms after it was started", now_ms_ - seen.started_at_ms));
    }
    show(replica, ReplicaState::ready, Reason::ready, seen.limits_note);
  } else {
    show(replica, verdict->started ? ReplicaState::not_ready : ReplicaState::loading, verdict->reason,
         verdict->message);
  }
}

// It ended by itself, or has to be ended: the next generation is started when the back-off is over.
void Plan::fail(Replica& replica, Reason reason, const std::string& message, int64_t ran_ms) {
  if (replica.goal != ReplicaGoal::run) {
    replica.goal = ReplicaGoal::stop;
    show(replica, ReplicaState::stopping, Reason::stopped, message);
    return;
  }
  const RestartDecision decision = decide_restart(options_.restarts, replica.failures, ran_ms, reason);
  replica.failures = decision.failures;
  replica.retry_ms = now_ms_ + decision.delay_ms;
  ++replica.generation;
  event(replica.deployment, replica.id, reason_name(reason),
        decision.message.empty() ? message : message + "; " + decision.message);
  show(replica, ReplicaState::pending, decision.delay_ms > 0 ? decision.reason : reason, message);
}

// A drained replica is stopped when nobody uses it, or when it has had its time. A clock that went back gives it its time again.
void Plan::drain(Replica& replica) {
  if (replica.goal != ReplicaGoal::drain) return;
  if (replica.drain_ms == 0 || replica.drain_ms > now_ms_) replica.drain_ms = now_ms_;
  const bool serves = replica.state == ReplicaState::ready || replica.state == ReplicaState::not_ready ||
                      replica.state == ReplicaState::unknown;
  const bool over = now_ms_ - replica.drain_ms >= replica.replica_template.drain_timeout_ms;
  if (serves && !over && !signals_.is_idle(replica.id)) return;
  if (replica.state == ReplicaState::unknown && !over) return;
  replica.goal = ReplicaGoal::stop;
}

// Replicas of nodes that have been away for long are given up, a few at a time; when they come back, they are stopped. If many nodes are away
// at once it is more likely that we are.
void Plan::replace_what_is_lost() {
  const auto missing = static_cast<double>(missing_.size());
  if (options_.node_grace_ms == 0 ||
      missing > options_.missing_share_max * static_cast<double>(seen_.nodes.size()))
    return;
  int64_t left = options_.replaced_at_once_max;
  for (auto& [id, replica] : replicas_) {
    const auto since = memory_.missing_since_ms.find(replica.node);
    if (left == 0 || replica.goal == ReplicaGoal::stop || since == memory_.missing_since_ms.end()) continue;
    if (now_ms_ - since->second < options_.node_grace_ms) continue;
    replica.goal = ReplicaGoal::stop;
    event(replica.deployment, id, "NodeLost",
          fmt::format("node {} has been missing for {} s: made elsewhere", replica.node,
                      (now_ms_ - since->second) / 1000));
    --left;
  }
}

// Its process has ended for good; only its logs are still there.
bool Plan::is_over(const Replica& replica) const {
  const auto found = seen_.replicas.find(replica.id);
  return replica.goal == ReplicaGoal::stop && found != seen_.replicas.end() &&
         found->second.phase == ReplicaPhase::exited;
}

void Plan::move(const Deployment& deployment) {
  const auto found = of_.find(deployment.id);
  static const std::vector<const Replica*> kNone;
  const auto load = [&](const Replica& replica) { return signals_.tokens_in_flight(replica.id); };
  const Moves moves = next_moves(deployment, found == of_.end() ? kNone : found->second, load);
  for (const Replica* replica : moves.drain) {
    Replica& row = replicas_.at(replica->id);
    row.goal = ReplicaGoal::drain;
    row.drain_ms = now_ms_;
    event(deployment.id, row.id, "Draining",
          fmt::format("revision {}, {} wanted", row.revision, deployment.replicas));
  }
  for (const Replica* replica : moves.take_back) {
    Replica& row = replicas_.at(replica->id);
    row.goal = ReplicaGoal::run;
    row.drain_ms = 0;
    event(deployment.id, row.id, "TakenBack", "wanted again before it was stopped");
  }
  if (moves.make == 0) {
    memory_.last_message.erase(deployment.id);
    return;
  }
  Deployment grown = deployment;
  for (int64_t i = 0; i < moves.make && seen_.answered; ++i) make_replica(grown, moves.revision);
  if (grown.replicas_made != deployment.replicas_made) changes_.deployments.push_back(std::move(grown));
}

void Plan::make_replica(Deployment& deployment, int64_t revision) {
  const NodeRoom::Place place = room_.find(deployment.id, deployment.replica_template);
  std::string& last = memory_.last_message[deployment.id];
  if (place.node.empty()) {
    if (last != place.message) event(deployment.id, "", reason_name(Reason::no_capacity), place.message);
    last = place.message;
    return;
  }
  last.clear();
  ++deployment.replicas_made;
  Replica replica{.id = fmt::format("{}-{}", deployment.id, deployment.replicas_made),
                  .deployment = deployment.id,
                  .endpoint = deployment.endpoint,
                  .workspace = deployment.workspace,
                  .node = place.node,
                  .revision = revision,
                  .replica_template = deployment.replica_template,
                  .created_ms = now_ms_};
  show(replica, ReplicaState::pending, Reason::in_progress, "");
  room_.take(replica);
  event(deployment.id, replica.id, "Placed", fmt::format("revision {} on node {}", revision, place.node));
  replicas_.emplace(replica.id, std::move(replica));
}

bool same(const Replica& a, const Replica& b) {
  bool equal = true;
  for_each_field<Replica>([&](const auto& f) {
    if constexpr (!HasFields<typename std::remove_cvref_t<decltype(f)>::Type>)
      equal = equal && a.*f.member == b.*f.member;
  });
  return equal;  // templates never change
}

void Plan::collect() {
  const std::set<std::string> gone(changes_.gone.begin(), changes_.gone.end());
  for (const auto& [id, replica] : replicas_) {
    if (gone.contains(id)) continue;
    const auto before = state_.replicas.find(id);
    if (before == state_.replicas.end() || !same(before->second, replica))
      changes_.replicas.push_back(replica);
  }
}

}  // namespace

Changes plan(const ClusterState& state, const Observation& seen, const ReplicaSignals& signals,
             const ReconcilerOptions& options, int64_t now_ms, ReconcilerMemory& memory) {
  return Plan(state, seen, signals, options, now_ms, memory).make();
}

// ---- rows and provider

Reconciler::Reconciler(ClusterState state, StateRows& rows, Provider& provider, Describe describe,
                       ReconcilerOptions options)
    : state_(std::move(state)),
      rows_(rows),
      provider_(provider),
      describe_(std::move(describe)),
      options_(options) {}

void Reconciler::tick(const ReplicaSignals& signals, int64_t now_ms) {
  const Observation seen = look();
  const Changes changes = plan(state_, seen, signals, options_, now_ms, memory_);
  if (!changes.empty()) rows_.commit(changes);
  apply(changes);
  if (seen.answered) act(seen, signals, now_ms);
}

void Reconciler::set(Deployment deployment) {
  Deployment& known = state_.deployments[deployment.id];
  deployment.replicas_made = std::max(deployment.replicas_made, known.replicas_made);
  known = std::move(deployment);
}

void Reconciler::retire(const std::string& deployment) {
  const auto found = state_.deployments.find(deployment);
  if (found != state_.deployments.end()) found->second.replicas = 0;
}

int64_t Reconciler::replicas_of(const std::string& deployment) const {
  return std::ranges::count_if(state_.replicas,
                               [&](const auto& r) { return r.second.deployment == deployment; });
}

Observation Reconciler::look() {
  Observation seen;
  try {
    seen.nodes = provider_.nodes();
    for (ObservedReplica& replica : provider_.observe())
      seen.replicas.emplace(replica.id, std::move(replica));
    seen.answered = true;
  } catch (const Error& error) {
    spdlog::warn("provider does not answer name={} error=\"{}\"", provider_.name(), error.message());
    seen = {};
  }
  return seen;
}

void Reconciler::apply(const Changes& changes) {
  for (const Deployment& deployment : changes.deployments)
    state_.deployments.at(deployment.id).replicas_made = deployment.replicas_made;
  for (const Replica& replica : changes.replicas) state_.replicas.insert_or_assign(replica.id, replica);
  for (const std::string& id : changes.gone) state_.replicas.erase(id);
}

// Errors of one replica are no reason to leave the others: what was not done is done by the next tick.
void Reconciler::act(const Observation& seen, const ReplicaSignals& signals, int64_t now_ms) {
  const auto guarded = [](const std::string& id, const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      spdlog::warn("replica could not be changed id={} error=\"{}\"", id, error.message());
    }
  };
  for (const auto& [id, replica] : state_.replicas) {
    const auto found = seen.replicas.find(id);
    guarded(id, [&] {
      act_on(replica, found == seen.replicas.end() ? nullptr : &found->second, signals, now_ms);
    });
  }
  std::erase_if(memory_.stray_since_ms, [&](const auto& entry) {
    return !seen.replicas.contains(entry.first) || state_.replicas.contains(entry.first);
  });
  for (const auto& [id, replica] : seen.replicas)
    if (!state_.replicas.contains(id)) guarded(id, [&] { act_on_stray(replica, now_ms); });
}

void Reconciler::act_on(const Replica& replica, const ObservedReplica* seen, const ReplicaSignals& signals,
                        int64_t now_ms) {
  if (replica.state == ReplicaState::unknown || (seen && seen->phase == ReplicaPhase::unknown)) return;
  const milliseconds grace(replica.replica_template.stop_grace_ms);
  const bool runs = seen && seen->phase != ReplicaPhase::exited && seen->phase != ReplicaPhase::accepted;
  const bool of_now = seen && seen->generation == replica.generation;
  if (replica.goal == ReplicaGoal::stop) {
    if (runs)
      provider_.stop(replica.id, replica.generation, grace);
    else if (seen && (!signals.may_remove || signals.may_remove(replica.id)))
      provider_.remove(replica.id);
  } else if (runs && !of_now) {
    if (seen->phase != ReplicaPhase::stopping) provider_.stop(replica.id, seen->generation, grace);
  } else if (replica.goal == ReplicaGoal::run && !runs && now_ms >= replica.retry_ms) {
    if (!of_now || seen->phase == ReplicaPhase::accepted) provider_.start(describe_(replica));
  }
}

void Reconciler::act_on_stray(const ObservedReplica& seen, int64_t now_ms) {
  if (seen.phase == ReplicaPhase::unknown) return;
  const int64_t since = memory_.stray_since_ms.try_emplace(seen.id, now_ms).first->second;
  if (now_ms - since < options_.stray_grace_ms) return;
  if (seen.phase == ReplicaPhase::exited || seen.phase == ReplicaPhase::accepted)
    provider_.remove(seen.id);
  else
    provider_.stop(seen.id, seen.generation, milliseconds(10'000));
}

}  // namespace neutrino::cloud
