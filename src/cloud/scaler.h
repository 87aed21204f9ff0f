// The autoscaler at work: a memory and a number of replicas for each endpoint.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cloud/autoscaler.h"
#include "cloud/endpoint.h"

namespace neutrino::cloud {

struct Scaled {
  std::string endpoint;
  int64_t before = 0, replicas = 0;
  std::string reason;
};

// One thread.
class Scaler {
 public:
  // What an endpoint has now, at its first sight.
  void begin(const std::string& endpoint, int64_t replicas) {
    states_.try_emplace(endpoint).first->second.replicas = replicas;
  }
  void forget(const std::string& endpoint) { states_.erase(endpoint); }
  int64_t replicas(const std::string& endpoint) const;

  // Endpoints with a sample, or all (without one they had no load), whose number changes. Paused ones are left out.
  std::vector<Scaled> decide_all(const std::map<std::string, Endpoint>& endpoints,
                                 const std::map<std::string, ScalingSample>& samples,
                                 const std::map<std::string, ReplicaCounts>& counts, int64_t now_ms,
                                 bool all);

 private:
  struct State {
    AutoscalerMemory memory;
    int64_t replicas = 0;
  };
  std::map<std::string, State> states_;
};

}  // namespace neutrino::cloud
