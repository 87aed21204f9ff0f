// What the control plane does in its own time: machine hours, settling from replicas' logs, and forgetting what is too old.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "cloud/provider.h"
#include "cloud/schema.h"
#include "cloud/usage_ledger.h"
#include "store/database.h"

namespace neutrino::cloud {

struct AccountantParts {
  store::Database& database;
  const Tables& tables;
  UsageLedger& ledger;
  const Clock& clock;
  ReadReplicaLog read_log;
  std::function<std::vector<ObservedReplica>()> observe;
  std::function<void()> on_spent;  // budgets have changed
};

class Accountant {
 public:
  explicit Accountant(AccountantParts parts);
  ~Accountant();  // a last look at the machine hours
  Accountant(const Accountant&) = delete;

  // Since when its logs were looked through for what was estimated; 0: they were not. Any thread.
  int64_t settled_ms() const;

 private:
  void run();
  void settle();
  void count_machines();
  void expire();
  void guarded(const char* what, void (Accountant::*work)());

  AccountantParts parts_;
  mutable std::mutex mutex_;
  std::condition_variable woken_;
  bool stopping_ = false;
  int64_t settled_ms_ = 0;
  std::thread thread_;
};

}  // namespace neutrino::cloud
