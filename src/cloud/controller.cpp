#include "cloud/controller.h"

#include <algorithm>
#include <chrono>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace neutrino::cloud {
namespace {

using std::chrono::milliseconds;

constexpr int64_t kScalePeriodMilliseconds = 1000;
constexpr int64_t kNodesPeriodMilliseconds = 10'000;
constexpr milliseconds kIdlePause{1000}, kBusyPause{50}, kErrorPause{500};

}  // namespace

Controller::Controller(ControllerParts parts, ControllerOptions options)
    : parts_(std::move(parts)), options_(std::move(options)), rows_(parts_.database, parts_.tables) {}

Controller::~Controller() = default;

void Controller::run() {
  for (;;) {
    try {
      turn();
    } catch (const Error& error) {
      spdlog::error("the controller could not do its work, and tries again error=\"{}\"", error.message());
      seen_ = -1;
      std::unique_lock lock(mutex_);
      woken_.wait_for(lock, kErrorPause, [&] { return stopping_; });
    }
    wait_for_something();
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    wake_ = false;
  }
}

void Controller::turn() {
  take_changes();
  scale();
  reconcile();
  retire_gone();
  probe();
  publish();
  note_nodes();
}

void Controller::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  woken_.notify_all();
}

void Controller::wake() {
  const std::lock_guard lock(mutex_);
  wake_ = true;
  woken_.notify_all();
}

void Controller::spent_changed() {
  const std::lock_guard lock(mutex_);
  spent_changed_ = wake_ = true;
  woken_.notify_all();
}

// While something moves, what the provider sees is looked at often.
void Controller::wait_for_something() {
  const milliseconds pause = is_busy() ? kBusyPause : kIdlePause;
  std::unique_lock lock(mutex_);
  woken_.wait_for(lock, pause, [&] { return wake_ || stopping_; });
}

bool Controller::is_busy() const {
  if (!reconciler_) return false;
  return std::ranges::any_of(reconciler_->state().replicas, [](const auto& named) {
    const Replica& replica = named.second;
    return replica.goal != ReplicaGoal::run || replica.state == ReplicaState::pending ||
           replica.state == ReplicaState::loading || replica.state == ReplicaState::stopping;
  });
}

// ---- rows

void Controller::load() {
  int64_t seen = 0;
  ClusterState state = rows_.load();
  parts_.database.read([&](store::Transaction& tx) {
    seen = store::last_change(tx);
    endpoints_.clear();
    for (Endpoint& endpoint : list_all(tx, parts_.tables.endpoints))
      endpoints_.emplace(endpoint.id, std::move(endpoint));
  });
  read_accounts();
  for (const auto& [id, endpoint] : endpoints_) {
    int64_t scaled = 0;
    for (const DeploymentSpec& spec : endpoint.deployments) {
      const auto row = state.deployments.find(deployment_id(endpoint, spec.name));
      if (row != state.deployments.end() && is_scaled(spec)) scaled = std::max(scaled, row->second.replicas);
    }
    scaler_.begin(id, scaled);
  }
  reconciler_ = std::make_unique<Reconciler>(
      std::move(state), rows_, parts_.provider, [this](const Replica& replica) { return describe(replica); },
      options_.reconciler);
  take_endpoints();
  seen_ = seen;
  changed_ = true;
}

void Controller::take_changes() {
  if (seen_ < 0) return load();
  try {
    read_changes();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::out_of_range) throw;
    load();  // further behind than the log reaches
  }
  const bool spent = [&] {
    const std::lock_guard lock(mutex_);
    return std::exchange(spent_changed_, false);
  }();
  if (spent) read_accounts();
}

void Controller::read_changes() {
  std::set<std::string> endpoints;
  bool accounts = false, shapes = false;
  for (bool more = true; more;) {
    const store::ChangePage page = parts_.database.read(
        [&](store::Transaction& tx) { return store::read_changes(tx, {.since = seen_}); });
    for (const store::Change& change : page.changes) {
      if (change.kind == "endpoint") endpoints.insert(change.id);
      shapes |= change.kind == "shape";
      accounts |= change.kind == "key" || change.kind == "budget" || change.kind == "price" || shapes;
    }
    seen_ = page.seen;
    more = std::ssize(page.changes) == limits::kStorePageRows;
  }
  if (accounts) read_accounts();
  if (shapes) take_endpoints();
  if (!endpoints.empty()) read_endpoints(endpoints);
}

void Controller::read_endpoints(const std::set<std::string>& ids) {
  parts_.database.read([&](store::Transaction& tx) {
    for (const std::string& id : ids) {
      if (auto row = parts_.tables.endpoints.find(tx, id))
        endpoints_.insert_or_assign(id, *std::move(row));
      else
        endpoints_.erase(id), scaler_.forget(id);
    }
  });
  std::vector<Deployment> changed;
  for (const std::string& id : ids)
    if (endpoints_.contains(id)) add_changed(endpoints_.at(id), changed);
  set_deployments(std::move(changed));
  retiring_ = changed_ = true;
}

void Controller::read_accounts() {
  Accounts next;
  Shapes shapes;
  parts_.database.read([&](store::Transaction& tx) {
    next = {};
    next.keys = list_all(tx, parts_.tables.keys);
    for (Price& price : list_all(tx, parts_.tables.prices))
      next.prices.emplace(price.model, std::move(price));
    const HardBudgets budgets = parts_.ledger.hard_budgets(tx);
    next.budgets = budgets.routes();
    for (const KeyRow& key : next.keys) next.key_budgets[key.id] = budgets.of(key);
    for (const GatewayRow& gateway : list_all(tx, parts_.tables.gateways))
      next.counted[gateway.id] = gateway.usage_sequence;
    shapes.clear();
    for (Shape& shape : list_all(tx, parts_.tables.shapes)) shapes.emplace(shape.name, std::move(shape));
  });
  accounts_ = std::move(next);
  shapes_ = std::move(shapes);
  changed_ = true;
}

// ---- endpoints to deployments

void Controller::take_endpoints() {
  std::vector<Deployment> changed;
  for (const auto& [id, endpoint] : endpoints_) add_changed(endpoint, changed);
  set_deployments(std::move(changed));
  retiring_ = changed_ = true;
}

// What differs between an endpoint's deployments as they are wanted and as the reconciler has them.
void Controller::add_changed(const Endpoint& endpoint, std::vector<Deployment>& changed) const {
  const auto& deployments = reconciler_->state().deployments;
  const auto shares = share_replicas(endpoint, scaler_.replicas(endpoint.id));
  for (const DeploymentSpec& spec : endpoint.deployments) {
    Deployment next = wanted(endpoint, spec, shares.at(spec.name));
    const auto known = deployments.find(next.id);
    if (known != deployments.end()) next.replicas_made = known->second.replicas_made;
    if (known == deployments.end() || to_text(to_json(known->second)) != to_text(to_json(next)))
      changed.push_back(std::move(next));
  }
}

// Written down first, all at once.
void Controller::set_deployments(std::vector<Deployment> changed, const std::vector<Event>& events) {
  if (changed.empty() && events.empty()) return;
  rows_.set(changed, {}, events);
  for (Deployment& deployment : changed) reconciler_->set(std::move(deployment));
}

Deployment Controller::wanted(const Endpoint& endpoint, const DeploymentSpec& spec, int64_t replicas) const {
  return {.id = deployment_id(endpoint, spec.name),
          .endpoint = endpoint.id,
          .workspace = endpoint.workspace,
          .replicas = replicas,
          .revision = std::max<int64_t>(spec.revision, 1),
          .replica_template = replica_template(endpoint, spec, shapes_, options_.program),
          .rollout = spec.rollout};
}

// Deployments of endpoints, or in endpoints, that are not there any more: drained, and then forgotten.
void Controller::retire_gone() {
  if (!retiring_) return;
  std::set<std::string> wanted;
  for (const auto& [id, endpoint] : endpoints_)
    for (const DeploymentSpec& spec : endpoint.deployments) wanted.insert(deployment_id(endpoint, spec.name));
  std::vector<Deployment> retired;
  std::vector<std::string> gone;
  int64_t left = 0;
  for (const auto& [id, deployment] : reconciler_->state().deployments) {
    if (wanted.contains(id)) continue;
    ++left;
    if (deployment.replicas > 0) retired.push_back(deployment);
    if (reconciler_->replicas_of(id) == 0) gone.push_back(id);
  }
  retiring_ = left > std::ssize(gone);
  for (Deployment& deployment : retired) deployment.replicas = 0;
  if (retired.empty() && gone.empty()) return;
  rows_.set(retired, gone, {});
  for (Deployment& deployment : retired) reconciler_->set(std::move(deployment));
  for (const std::string& id : gone) reconciler_->forget(id);
}

// ---- how many

std::map<std::string, ReplicaCounts> Controller::count_replicas() const {
  std::map<std::string, ReplicaCounts> counts;
  for (const auto& [id, replica] : reconciler_->state().replicas) {
    if (replica.goal != ReplicaGoal::run) continue;
    ReplicaCounts& count = counts[replica.endpoint];
    if (replica.state == ReplicaState::ready)
      ++count.ready;
    else if (replica.state == ReplicaState::pending || replica.state == ReplicaState::loading)
      ++count.loading;
  }
  return counts;
}

void Controller::scale() {
  const int64_t now = parts_.clock.unix_ms();
  const bool all = now - scaled_ms_ >= kScalePeriodMilliseconds || now < scaled_ms_;
  if (!all && !parts_.gateways.has_wakes()) return;
  if (all) scaled_ms_ = now;
  const std::vector<Scaled> changes =
      scaler_.decide_all(endpoints_, parts_.gateways.take_samples(now), count_replicas(), now, all);
  for (const Scaled& change : changes) {
    const Endpoint& endpoint = endpoints_.at(change.endpoint);
    std::vector<Event> events{
        {now, deployment_id(endpoint, endpoint.deployments.front().name), "", "Scaled",
         fmt::format("from {} to {} replicas: {}", change.before, change.replicas, change.reason)}};
    apply_shares(change.endpoint, std::move(events));
  }
}

void Controller::apply_shares(const std::string& id, std::vector<Event> events) {
  const Endpoint& endpoint = endpoints_.at(id);
  std::vector<Deployment> changed;
  for (const auto& [name, replicas] : share_replicas(endpoint, scaler_.replicas(id))) {
    Deployment next = reconciler_->state().deployments.at(deployment_id(endpoint, name));
    if (std::exchange(next.replicas, replicas) != replicas) changed.push_back(std::move(next));
  }
  set_deployments(std::move(changed), events);
}

// ---- replicas

ReplicaSpec Controller::describe(const Replica& replica) const {
  const ReplicaTemplate& from = replica.replica_template;
  ReplicaSpec spec{.id = replica.id,
                   .generation = replica.generation,
                   .command = from.command,
                   .environment = from.environment,
                   .working_directory = from.working_directory,
                   .memory_bytes = from.memory_bytes,
                   .cores = from.cores,
                   .stop_grace_ms = from.stop_grace_ms,
                   .node = replica.node};
  for (std::string& entry : parts_.secrets(replica)) spec.environment.push_back(std::move(entry));
  return spec;
}

ReplicaSignals Controller::signals() {
  auto verdicts = std::make_shared<const std::map<std::string, ProbedReplica>>(parts_.prober.verdicts());
  const int64_t now = parts_.clock.unix_ms();
  return {.verdict = [verdicts](const std::string& id, int64_t generation) -> std::optional<ProbeVerdict> {
            const auto found = verdicts->find(id);
            if (found == verdicts->end() || found->second.generation != generation) return std::nullopt;
            return found->second.verdict;
          },
          .tokens_in_flight = [this](const std::string& id) { return parts_.gateways.tokens_at(id); },
          .is_idle =
              [this, now](const std::string& id) {
                const auto said = draining_since_.find(id);
                return said != draining_since_.end() && parts_.gateways.is_idle(id, said->second, now);
              },
          .may_remove = parts_.may_remove};
}

void Controller::reconcile() {
  const int64_t commits = rows_.commits();
  reconciler_->tick(signals(), parts_.clock.unix_ms());
  changed_ |= rows_.commits() != commits;
}

void Controller::probe() {
  std::vector<ProbeTarget> targets;
  for (const auto& [id, replica] : reconciler_->state().replicas) {
    if (replica.seen != replica.generation || replica.port == 0 || replica.goal == ReplicaGoal::stop)
      continue;
    targets.push_back({.id = id,
                       .generation = replica.generation,
                       .host = replica.host,
                       .port = static_cast<int>(replica.port),
                       .plan = probe_plan(replica.replica_template)});
  }
  parts_.prober.set_targets(std::move(targets));
}

// ---- what others learn

void Controller::publish() {
  if (!std::exchange(changed_, false)) return;
  RouteTable table = make_route_table(endpoints_, reconciler_->state(), accounts_, parts_.replica_key);
  try {
    const RouteIndex check(table);
  } catch (const Error& error) {
    spdlog::error("the route table contradicts itself, and the last one stays error=\"{}\"", error.message());
    return;
  }
  parts_.routes.publish(std::move(table), accounts_.counted, parts_.clock.unix_ms());
  std::map<std::string, int64_t> draining;
  for (const auto& [id, replica] : reconciler_->state().replicas) {
    if (replica.goal != ReplicaGoal::drain) continue;
    const auto before = draining_since_.find(id);
    draining[id] = before == draining_since_.end() ? parts_.routes.version() : before->second;
  }
  draining_since_ = std::move(draining);
}

void Controller::note_nodes() {
  const int64_t now = parts_.clock.unix_ms();
  if (now - nodes_ms_ < kNodesPeriodMilliseconds && now >= nodes_ms_) return;
  nodes_ms_ = now;
  const std::vector<NodeFacts> facts = parts_.provider.nodes();
  parts_.database.write([&](store::Transaction& tx) {
    for (const NodeFacts& node : facts) {
      Node row{.name = node.name,
               .node_group = options_.node_group,
               .phase = node.phase == NodePhase::ready ? "ready" : "missing",
               .cores = node.cores,
               .memory_bytes = node.memory_bytes,
               .memory_available_bytes = node.memory_available_bytes,
               .kernel_table = node.kernel_table,
               .memory_bytes_per_second = node.memory_bytes_per_second,
               .seen_ms = now};
      if (parts_.tables.nodes.find(tx, row.name))
        parts_.tables.nodes.update(tx, row);
      else
        parts_.tables.nodes.insert(tx, row);
    }
  });
}

}  // namespace neutrino::cloud
