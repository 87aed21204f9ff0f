#include "cloud/placement.h"

#include <algorithm>
#include <tuple>

namespace neutrino::cloud {
namespace {

std::string gib(int64_t bytes) { return fmt::format("{:.2f} GiB", static_cast<double>(bytes) / (1 << 30)); }

}  // namespace

NodeRoom::NodeRoom(const std::vector<NodeFacts>& nodes) {
  for (const NodeFacts& facts : nodes) nodes_[facts.name].facts = &facts;
}

void NodeRoom::take(const Replica& replica) {
  const auto node = nodes_.find(replica.node);
  if (node == nodes_.end()) return;
  node->second.memory_bytes += replica.replica_template.memory_bytes;
  node->second.cores += replica.replica_template.cores;
  ++node->second.replicas;
  ++node->second.of_deployment[replica.deployment];
}

NodeRoom::Place NodeRoom::find(std::string_view deployment, const ReplicaTemplate& replica) const {
  const Node* best = nullptr;
  std::tuple<int64_t, int64_t, int64_t> best_rank;
  int64_t answering = 0, most_memory = 0;
  double most_cores = 0;
  for (const auto& [name, node] : nodes_) {
    if (node.facts->phase != NodePhase::ready) continue;
    ++answering;
    const int64_t memory = node.facts->memory_bytes - node.memory_bytes;
    const double cores = node.facts->cores - node.cores;
    most_memory = std::max(most_memory, memory), most_cores = std::max(most_cores, cores);
    if (memory < replica.memory_bytes || (replica.cores > 0 && cores < replica.cores)) continue;
    const auto same = node.of_deployment.find(deployment);
    const std::tuple rank{same == node.of_deployment.end() ? 0 : same->second, -memory, node.replicas};
    if (!best || rank < best_rank) best = &node, best_rank = rank;
  }
  if (best) return {best->facts->name, ""};
  if (answering == 0) return {"", "no node answers"};
  if (most_memory < replica.memory_bytes)
    return {"", fmt::format("a replica needs {}, the node with the most room has {} left: {} too little",
                            gib(replica.memory_bytes), gib(most_memory),
                            gib(replica.memory_bytes - most_memory))};
  return {"", fmt::format("a replica needs {} cores, the node with the most has {} left", replica.cores,
                          most_cores)};
}

}  // namespace neutrino::cloud
