// Which node gets a replica: a pure function. Memory is what decides: a node takes no more than it has, counting what every replica
// there was promised, not what it happens to use at the moment.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "cloud/provider.h"
#include "cloud/resources.h"

namespace neutrino::cloud {

// What is promised on each node, kept while replicas are placed one after the other.
class NodeRoom {
 public:
  explicit NodeRoom(const std::vector<NodeFacts>& nodes);
  void take(const Replica& replica);  // that is there or promised; on a node that is not known: nothing

  struct Place {
    std::string node;     // empty: there is none
    std::string message;  // then: by how much
  };
  // Of the nodes that answer and have room, the one with the fewest replicas of this deployment, then the one with the most memory left.
  Place find(std::string_view deployment, const ReplicaTemplate& replica) const;

 private:
  struct Node {
    const NodeFacts* facts = nullptr;
    int64_t memory_bytes = 0;  // promised
    double cores = 0;
    int64_t replicas = 0;
    std::map<std::string, int64_t, std::less<>> of_deployment;
  };
  std::map<std::string, Node, std::less<>> nodes_;
};

}  // namespace neutrino::cloud
