// How long each replica's process ran, split over hours: what it took of a machine, used or not, and what that costs.
//
// Counted from the intervals that the provider tells, not from calls of the API: each time what has passed since the moment up to which the
// replica's rows are counted. So a control plane that was away neither loses time of a replica that lived on nor counts any twice.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "cloud/schema.h"
#include "store/transaction.h"

namespace neutrino::cloud {

struct RunningReplica {
  std::string id;  // never used again for another
  std::string workspace, endpoint, deployment, shape;
  int64_t memory_bytes = 0;
  double cores = 0;
  int64_t started_ms = 0;   // of its present generation, Unix time; 0: has not begun
  int64_t finished_ms = 0;  // 0: it runs
};

void add_machine_hours(store::Transaction& tx, const Tables& tables, std::span<const RunningReplica> replicas,
                       int64_t now_ms);

}  // namespace neutrino::cloud
