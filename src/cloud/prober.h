// Asks the probes of all replicas over HTTP and keeps what probes.h makes of the answers.
//
// One coroutine a replica on the executor's thread; connections are not kept, so that a probe also sees that nobody can connect.
#pragma once

#include <boost/asio/any_io_executor.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cloud/probes.h"

namespace neutrino::cloud {

struct ProbeTarget {
  std::string id;          // of the replica
  int64_t generation = 0;  // a new one begins anew
  std::string host;        // an IP address
  int port = 0;
  ProbePlan plan;
};

struct ProbedReplica {
  int64_t generation = 0;
  ProbeVerdict verdict;
};

class Prober {
 public:
  // `on_change` runs on the executor's thread when a verdict has changed.
  explicit Prober(boost::asio::any_io_executor executor, std::function<void()> on_change = {});
  ~Prober();  // on the executor's thread, or when that does not run any more

  // Any thread. Exactly these are asked from now on; those that were before, with the same generation and address, go on.
  void set_targets(std::vector<ProbeTarget> targets);
  std::map<std::string, ProbedReplica> verdicts() const;  // any thread; of the targets, by id
  void stop();  // any thread: no more questions, so that the executor may come to its end

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace neutrino::cloud
