// A provider for tests that does what it is told, at once, and remembers what that was.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/error.h"
#include "cloud/provider.h"

namespace neutrino::cloud::testing {

inline constexpr int64_t kGiB = int64_t{1} << 30;

class PlainProvider final : public Provider {
 public:
  std::string_view name() const override { return "plain"; }
  void start(const ReplicaSpec& spec) override {
    calls.push_back(fmt::format("start {} {}", spec.id, spec.generation));
    started[spec.id] = spec;
    replicas[spec.id] = {.id = spec.id,
                         .generation = spec.generation,
                         .phase = ReplicaPhase::running,
                         .node = spec.node,
                         .host = "127.0.0.1",
                         .port = port,
                         .started_at_ms = 1};
  }
  void stop(const std::string& id, int64_t generation, milliseconds) override {
    calls.push_back(fmt::format("stop {} {}", id, generation));
    replicas[id].phase = ReplicaPhase::exited;
  }
  void remove(const std::string& id) override {
    calls.push_back("remove " + id);
    replicas.erase(id);
  }
  std::vector<ObservedReplica> observe() override {
    std::vector<ObservedReplica> all;
    for (const auto& [id, replica] : replicas) all.push_back(replica);
    return all;
  }
  std::vector<NodeFacts> nodes() override { return facts; }
  LogChunk read_log(const std::string&, int64_t, int64_t) override { return {}; }

  std::map<std::string, ObservedReplica> replicas;
  std::map<std::string, ReplicaSpec> started;  // by id
  std::vector<NodeFacts> facts{{.name = "n", .cores = 8, .memory_bytes = 8 * kGiB}};
  std::vector<std::string> calls;
  int port = 1;  // where all of them listen
};

}  // namespace neutrino::cloud::testing
