// The reconciler against a world that loses, delays and repeats what it is told, whose nodes go dark and whose replicas crash, while it
// is itself killed between any two lines and its clock jumps. One seed, one run.
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "cloud/reconciler.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kMinuteMs = 60'000;
constexpr int64_t kGiB = int64_t{1} << 30;

struct Killed {};  // the control plane is dead from here on

struct FaultCounts {
  int64_t lost_calls = 0, late_calls = 0, repeated_calls = 0, deaf_looks = 0, dark_nodes = 0, crashes = 0,
          kills = 0, failed_commits = 0, clock_jumps = 0, hangs = 0;
  int64_t total() const {
    return lost_calls + late_calls + repeated_calls + deaf_looks + dark_nodes + crashes + kills +
           failed_commits + clock_jumps + hangs;
  }
};

struct Process {
  ObservedReplica seen;
  int64_t memory_bytes = 0;
  int64_t revision = 0;
  int64_t ready_at_ms = 0;
  int64_t ends_at_ms = 0;  // 0: nobody has told it to end
  int64_t streams_until_ms = 0;
  bool hangs = false;
};

struct World {
  explicit World(uint64_t seed) : random(seed) {
    for (int i = 0; i < 5; ++i)
      nodes.push_back(
          {.name = fmt::format("n{}", i), .provider = "simulated", .cores = 16, .memory_bytes = 16 * kGiB});
  }

  Random random;
  int64_t now_ms = 0;          // that goes by
  int64_t clock_error_ms = 0;  // what the control plane's clock is off by
  bool faulty = true;
  std::vector<NodeFacts> nodes;
  std::map<std::string, int64_t> dark_until_ms;
  std::map<std::string, Process> processes;
  std::vector<std::pair<int64_t, std::function<void()>>> late;
  FaultCounts faults;
  std::vector<std::string> violations;
  std::function<bool(const Process&)> is_routed = [](const Process&) { return true; };

  int64_t unix_ms() const { return 1'700'000'000'000 + now_ms + clock_error_ms; }
  bool chance(double p) { return faulty && random.chance(p); }
  bool is_dark(const std::string& node) const {
    const auto found = dark_until_ms.find(node);
    return found != dark_until_ms.end() && found->second > now_ms;
  }
  void require(bool good, const std::string& what) {
    if (!good && violations.size() < 20) violations.push_back(fmt::format("{} s: {}", now_ms / 1000, what));
  }
  void kill_now_and_then(double p) {
    if (!chance(p)) return;
    ++faults.kills;
    throw Killed{};
  }

  static bool is_up(const Process& process) { return process.seen.phase == ReplicaPhase::running; }
  bool is_ready(const Process& process) const {
    return is_up(process) && !process.hangs && now_ms >= process.ready_at_ms;
  }

  void pass(int64_t ms) {
    now_ms += ms;
    std::erase_if(late, [&](auto& call) {
      const bool due = call.first <= now_ms;
      if (due) call.second();
      return due;
    });
    for (const NodeFacts& node : nodes)
      if (chance(0.0002))
        dark_until_ms[node.name] = now_ms + random.between(5'000, 12 * kMinuteMs), ++faults.dark_nodes;
    if (chance(0.0005)) clock_error_ms += random.between(-120'000, 120'000), ++faults.clock_jumps;
    for (auto& [id, process] : processes) step(process);
  }

  void step(Process& process) {
    if (!is_up(process) && process.seen.phase != ReplicaPhase::stopping) return;
    if (process.ends_at_ms != 0 && now_ms >= process.ends_at_ms) return end(process, Reason::stopped);
    if (chance(0.0005)) return ++faults.crashes, end(process, Reason::crashed);
    if (chance(0.0002)) process.hangs = true, ++faults.hangs;
    if (is_ready(process) && is_routed(process) && random.chance(0.2))
      process.streams_until_ms = std::max(process.streams_until_ms, now_ms + random.between(500, 20'000));
  }

  void end(Process& process, Reason reason) {
    process.seen.phase = ReplicaPhase::exited;
    process.seen.reason = reason;
    process.seen.finished_at_ms = unix_ms();
  }
};

// Calls may be lost, come late, or come twice.
class SimulatedProvider : public Provider {
 public:
  explicit SimulatedProvider(World& world) : world_(world) {}
  std::string_view name() const override { return "simulated"; }

  void start(const ReplicaSpec& spec) override {
    const auto process = world_.processes.find(spec.id);
    if (process != world_.processes.end() && process->second.seen.generation < spec.generation &&
        process->second.seen.phase != ReplicaPhase::exited) {
      world_.require(world_.is_dark(process->second.seen.node) || !World::is_up(process->second) ||
                         process->second.ends_at_ms != 0 || world_.clock_error_ms != 0,
                     "a second start of " + spec.id + ", which runs");
      throw make_error(ErrorCode::failed_precondition, "{} runs", spec.id);
    }
    call([this, spec] { do_start(spec); });
  }
  void stop(const std::string& id, int64_t generation, milliseconds grace) override {
    call([this, id, generation, grace] {
      const auto found = world_.processes.find(id);
      if (found == world_.processes.end() || found->second.seen.phase == ReplicaPhase::exited) return;
      if (found->second.seen.generation > generation) return;
      Process& process = found->second;
      on_stop(process);
      process.seen.phase = ReplicaPhase::stopping;
      const int64_t takes = process.hangs ? grace.count() : world_.random.between(50, 2000);
      if (process.ends_at_ms == 0) process.ends_at_ms = world_.now_ms + takes;
    });
  }
  void remove(const std::string& id) override {
    call([this, id] {
      const auto found = world_.processes.find(id);
      if (found != world_.processes.end() && found->second.seen.phase == ReplicaPhase::exited)
        world_.processes.erase(found);
    });
  }

  std::vector<ObservedReplica> observe() override {
    world_.kill_now_and_then(0.001);
    if (world_.chance(0.02)) {
      ++world_.faults.deaf_looks;
      throw make_error(ErrorCode::unavailable, "the provider does not answer");
    }
    std::vector<ObservedReplica> replicas;
    for (const auto& [id, process] : world_.processes) {
      replicas.push_back(process.seen);
      if (world_.is_dark(process.seen.node)) replicas.back().phase = ReplicaPhase::unknown;
    }
    return replicas;
  }
  std::vector<NodeFacts> nodes() override {
    std::vector<NodeFacts> nodes = world_.nodes;
    for (NodeFacts& node : nodes)
      if (world_.is_dark(node.name)) node.phase = NodePhase::missing;
    return nodes;
  }
  std::function<void(const Process&)> on_stop = [](const Process&) {};
  LogChunk read_log(const std::string&, int64_t, int64_t) override { return {}; }

 private:
  void do_start(const ReplicaSpec& spec) {
    Process& process = world_.processes[spec.id];
    if (process.seen.generation >= spec.generation) return;
    if (process.seen.generation > 0 && process.seen.phase != ReplicaPhase::exited) return;
    process = {};
    process.seen = {.id = spec.id,
                    .generation = spec.generation,
                    .phase = ReplicaPhase::running,
                    .node = spec.node,
                    .host = "127.0.0.1",
                    .port = 1,
                    .started_at_ms = world_.unix_ms()};
    process.memory_bytes = spec.memory_bytes;
    process.revision = std::strtoll(spec.command.at(0).c_str(), nullptr, 10);
    process.ready_at_ms = world_.now_ms + world_.random.between(1'000, 30'000);
  }

  void call(std::function<void()> act) {
    world_.kill_now_and_then(0.002);
    if (world_.chance(0.02)) {
      ++world_.faults.lost_calls;
      throw make_error(ErrorCode::unavailable, "the call was lost");
    }
    if (world_.chance(0.05)) {
      ++world_.faults.late_calls;
      world_.late.emplace_back(world_.now_ms + world_.random.between(1'000, 60'000), act);
    } else {
      act();
    }
    if (world_.chance(0.02)) {
      ++world_.faults.repeated_calls;
      world_.late.emplace_back(world_.now_ms + world_.random.between(1'000, 60'000), act);
    }
    world_.kill_now_and_then(0.002);
  }
  World& world_;
};

// The database: what was committed survives the control plane.
class SimulatedRows : public StateRows {
 public:
  explicit SimulatedRows(World& world) : world_(world) {}

  void commit(const Changes& changes) override {
    world_.kill_now_and_then(0.002);
    if (world_.chance(0.005)) {
      ++world_.faults.failed_commits;
      throw make_error(ErrorCode::unavailable, "the database does not answer");
    }
    look_at(changes);
    ClusterState& rows = forgets ? lost : durable;
    for (const Deployment& d : changes.deployments) rows.deployments[d.id].replicas_made = d.replicas_made;
    for (const Replica& r : changes.replicas) rows.replicas.insert_or_assign(r.id, r);
    for (const std::string& id : changes.gone) rows.replicas.erase(id);
    world_.kill_now_and_then(0.002);
  }

  ClusterState durable;
  ClusterState lost;
  bool forgets = false;  // a broken variant: acknowledges what it does not keep

 private:
  void look_at(const Changes& changes) {
    for (const Replica& after : changes.replicas) {
      const auto before = durable.replicas.find(after.id);
      if (before == durable.replicas.end()) {
        world_.require(made_.insert(after.id).second, "the name " + after.id + " was used twice");
      } else {
        world_.require(before->second.generation == after.generation || !world_.is_dark(after.node),
                       after.id + " was given up though only its node is dark");
      }
    }
    for (const auto& [id, deployment] : durable.deployments) look_at_drained(deployment, changes);
  }

  // No move takes a replica away that is needed.
  void look_at_drained(const Deployment& deployment, const Changes& changes) {
    std::map<std::string, Replica> after = durable.replicas;
    int64_t drained = 0;
    for (const Replica& r : changes.replicas) {
      if (r.deployment != deployment.id) continue;
      const auto before = durable.replicas.find(r.id);
      drained += before != durable.replicas.end() && before->second.goal == ReplicaGoal::run &&
                 r.goal == ReplicaGoal::drain && r.state == ReplicaState::ready;
      after.insert_or_assign(r.id, r);
    }
    const int64_t serving = std::ranges::count_if(after, [&](const auto& entry) {
      const Replica& r = entry.second;
      return r.deployment == deployment.id && r.goal == ReplicaGoal::run && r.state == ReplicaState::ready;
    });
    world_.require(drained == 0 || serving >= deployment.replicas - deployment.rollout.unavailable_max,
                   deployment.id + " lost a replica that it needs");
  }

  World& world_;
  std::set<std::string> made_;
};

class Simulation {
 public:
  explicit Simulation(uint64_t seed)
      : world(seed), rows(world), provider(std::make_unique<SimulatedProvider>(world)) {
    for (int i = 0; i < 4; ++i) {
      Deployment d{.id = fmt::format("d{}", i),
                   .endpoint = fmt::format("e{}", i),
                   .workspace = "w",
                   .replicas = world.random.between(0, 5)};
      d.replica_template = {.command = {"1"}, .memory_bytes = 2 * kGiB, .drain_timeout_ms = 30'000};
      rows.durable.deployments.emplace(d.id, d);
    }
    provider->on_stop = [this](const Process& process) { look_at_stop(process); };
    world.is_routed = [this](const Process& process) {
      const auto row = rows.durable.replicas.find(process.seen.id);
      return row != rows.durable.replicas.end() && row->second.goal == ReplicaGoal::run &&
             row->second.state == ReplicaState::ready;
    };
  }

  // `minutes` with faults, then as long as it takes without.
  void run(int64_t minutes) {
    boot();
    for (int64_t end = world.now_ms + minutes * kMinuteMs; world.now_ms < end;)
      second(/*operator_acts=*/true);
    world.faulty = false;
    world.dark_until_ms.clear();
    for (int64_t end = world.now_ms + 20 * kMinuteMs; world.now_ms < end;) second(/*operator_acts=*/false);
    look_at_the_end();
  }

  World world;
  SimulatedRows rows;
  std::unique_ptr<SimulatedProvider> provider;

 private:
  void boot() {
    booted_ms_ = world.now_ms;
    const auto describe = [](const Replica& replica) {
      return ReplicaSpec{.id = replica.id,
                         .generation = replica.generation,
                         .command = replica.replica_template.command,
                         .memory_bytes = replica.replica_template.memory_bytes,
                         .node = replica.node};
    };
    plane_ = std::make_unique<Reconciler>(rows.durable, rows, *provider, describe, ReconcilerOptions{});
  }

  void second(bool operator_acts) {
    world.pass(1000);
    if (operator_acts) operate();
    if (!plane_) {
      if (!world.faulty || world.random.chance(0.3)) boot();
      if (!plane_) return;
    }
    try {
      plane_->tick(signals(), world.unix_ms());
    } catch (const Killed&) {
      plane_.reset();
    } catch (const Error&) {  // of commit(): the next tick tries again
    }
    look_at_memory();
  }

  // What an operator changes is in the rows first, then told to the reconciler.
  void operate() {
    if (!world.random.chance(0.01)) return;
    auto d = std::next(rows.durable.deployments.begin(), world.random.below(4));
    Deployment& deployment = d->second;
    switch (world.random.below(4)) {
      case 0: deployment.replicas = world.random.between(0, 5); break;
      case 1: deployment.replica_template.command = {std::to_string(++deployment.revision)}; break;
      case 2: deployment.rollout.paused = !deployment.rollout.paused; break;
      default:
        deployment.rollout.surge_max = world.random.below(3);
        deployment.rollout.unavailable_max = deployment.rollout.surge_max == 0 ? 1 : world.random.below(2);
    }
    if (plane_) plane_->set(deployment);
  }

  ReplicaSignals signals() {
    return {.verdict = [this](const std::string& id, int64_t generation) -> std::optional<ProbeVerdict> {
              const auto found = world.processes.find(id);
              if (found == world.processes.end() || found->second.seen.generation != generation)
                return std::nullopt;
              if (world.now_ms - booted_ms_ < 3000) return std::nullopt;  // the prober has just begun, too
              if (found->second.hangs) return ProbeVerdict{.failed = true, .reason = Reason::liveness_failed};
              const bool ready = world.is_ready(found->second);
              return ProbeVerdict{.started = ready, .ready = ready};
            },
            .tokens_in_flight = [](const std::string&) { return 0.0; },
            .is_idle =
                [this](const std::string& id) {
                  const auto found = world.processes.find(id);
                  return found == world.processes.end() || found->second.streams_until_ms <= world.now_ms;
                }};
  }

  void look_at_stop(const Process& process) {
    const auto row = rows.durable.replicas.find(process.seen.id);
    if (row == rows.durable.replicas.end() || !world.is_ready(process) ||
        process.streams_until_ms <= world.now_ms)
      return;
    const Replica& r = row->second;
    const bool had_its_time =
        r.drain_ms > 0 && world.unix_ms() - r.drain_ms >= r.replica_template.drain_timeout_ms;
    world.require(had_its_time || r.goal != ReplicaGoal::run || r.generation != process.seen.generation,
                  fmt::format("{} generation {} of {} was stopped with streams on it: {}", process.seen.id,
                              process.seen.generation, r.generation, enum_name(r.goal)));
  }

  void look_at_memory() {
    for (const NodeFacts& node : world.nodes) {
      int64_t promised = 0;
      for (const auto& [id, r] : rows.durable.replicas)
        if (r.node == node.name) promised += r.replica_template.memory_bytes;
      world.require(promised <= node.memory_bytes, node.name + " is promised more memory than it has");
    }
  }

  void look_at_the_end() {
    for (const auto& [id, d] : rows.durable.deployments) {
      int64_t ready = 0, wrong = 0;
      for (const auto& [name, process] : world.processes) {
        if (!name.starts_with(id + "-")) continue;
        const auto row = rows.durable.replicas.find(name);
        const bool right = row != rows.durable.replicas.end() && row->second.state == ReplicaState::ready &&
                           (process.revision == d.revision || d.rollout.paused);
        (right && world.is_ready(process) ? ready : wrong) += 1;
      }
      world.require(
          ready == d.replicas && wrong == 0,
          fmt::format("{} has {} replicas as wanted and {} others, {} wanted", id, ready, wrong, d.replicas));
    }
    world.require(rows.durable.replicas.size() == world.processes.size(),
                  "rows and processes are not the same");
  }

  std::unique_ptr<Reconciler> plane_;
  int64_t booted_ms_ = 0;
};

class ReconcilerSimulation : public ::testing::Test {
 protected:
  void SetUp() override { spdlog::set_level(spdlog::level::off); }
  void TearDown() override { spdlog::set_level(spdlog::level::info); }
};

std::string first_violation(const World& world) {
  return world.violations.empty() ? "" : world.violations.front();
}

TEST_F(ReconcilerSimulation, WhateverHappensItEndsAsWanted) {
  const int64_t seeds = std::getenv("NEUTRINO_TEST_LONG") ? 1000 : 30;
  FaultCounts sum;
  for (int64_t seed = 1; seed <= seeds; ++seed) {
    Simulation simulation(static_cast<uint64_t>(seed));
    simulation.run(30);
    ASSERT_EQ(first_violation(simulation.world), "") << "seed " << seed;
    const FaultCounts& f = simulation.world.faults;
    sum.lost_calls += f.lost_calls, sum.late_calls += f.late_calls, sum.repeated_calls += f.repeated_calls;
    sum.deaf_looks += f.deaf_looks, sum.dark_nodes += f.dark_nodes, sum.crashes += f.crashes,
        sum.kills += f.kills;
    sum.failed_commits += f.failed_commits, sum.clock_jumps += f.clock_jumps, sum.hangs += f.hangs;
  }
  fmt::print(
      "{} seeds: {} calls lost, {} late, {} repeated; {} looks without an answer, {} dark nodes, {} crashes, "
      "{} hangs; "
      "{} kills, {} failed commits, {} clock jumps\n",
      seeds, sum.lost_calls, sum.late_calls, sum.repeated_calls, sum.deaf_looks, sum.dark_nodes, sum.crashes,
      sum.hangs, sum.kills, sum.failed_commits, sum.clock_jumps);
  for (const int64_t count :
       {sum.lost_calls, sum.late_calls, sum.repeated_calls, sum.deaf_looks, sum.dark_nodes, sum.crashes,
        sum.kills, sum.failed_commits, sum.clock_jumps, sum.hangs})
    EXPECT_GT(count, 0);
}

// A provider whose lost heartbeats look like dead replicas: what the reconciler must not believe.
class Hasty final : public SimulatedProvider {
 public:
  using SimulatedProvider::SimulatedProvider;
  std::vector<ObservedReplica> observe() override {
    auto replicas = SimulatedProvider::observe();
    std::erase_if(replicas, [](const ObservedReplica& r) { return r.phase == ReplicaPhase::unknown; });
    return replicas;
  }
  std::vector<NodeFacts> nodes() override {
    auto nodes = SimulatedProvider::nodes();
    for (NodeFacts& node : nodes) node.phase = NodePhase::ready;
    return nodes;
  }
};

TEST_F(ReconcilerSimulation, OneThatKillsOnALostHeartbeatIsCaught) {
  int64_t caught = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    Simulation simulation(seed);
    simulation.provider = std::make_unique<Hasty>(simulation.world);
    simulation.run(30);
    caught += simulation.world.violations.empty() ? 0 : 1;
  }
  EXPECT_GT(caught, 10);
}

TEST_F(ReconcilerSimulation, OneWhoseRowsAreNotDurableIsCaught) {
  int64_t caught = 0;
  for (uint64_t seed = 1; seed <= 5; ++seed) {
    Simulation simulation(seed);
    simulation.rows.forgets = true;
    simulation.run(30);
    caught += simulation.world.violations.empty() ? 0 : 1;
  }
  EXPECT_EQ(caught, 5);
}

}  // namespace
}  // namespace neutrino::cloud
