// The route table that gateways get: made from rows, and kept as text for all who ask.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "cloud/desired.h"
#include "cloud/endpoint.h"
#include "cloud/ledger.h"
#include "cloud/reconciler.h"
#include "cloud/route_table.h"
#include "cloud/tenants.h"

namespace neutrino::cloud {

// What a table is made from besides endpoints and replicas.
struct Accounts {
  std::vector<KeyRow> keys;
  std::map<std::string, std::vector<std::string>> key_budgets;  // by key: the hard ones that apply
  std::vector<BudgetRoute> budgets;                             // hard ones
  std::map<std::string, Price, std::less<>> prices;             // by model
  std::map<std::string, int64_t> counted;  // by gateway: how much of its usage the budgets' `spent` contains
};

// `replica_key` gives the API key of a deployment's replicas. Version and usage_sequence are left at 0. Pure.
RouteTable make_route_table(const std::map<std::string, Endpoint>& endpoints, const ClusterState& state,
                            const Accounts& accounts,
                            const std::function<std::string(const std::string& deployment)>& replica_key);

// A table as it is sent: the same text for all gateways, but for how far each one's usage is contained.
struct PublishedRoutes {
  int64_t version = 0;
  std::string text;  // JSON
  std::map<std::string, int64_t> counted;
};

// The newest one. Any thread.
class RouteBoard {
 public:
  // A new version if anything in it differs from the one before; true then. Versions rise across restarts: they are made of the clock.
  bool publish(RouteTable table, std::map<std::string, int64_t> counted, int64_t now_ms);
  std::shared_ptr<const PublishedRoutes> newest() const;  // null before the first
  int64_t version() const;

  // `listener` is called on the publisher's thread after each new version. One at a time; null ends it.
  void on_publish(std::function<void()> listener);

 private:
  mutable std::mutex mutex_;
  std::shared_ptr<const PublishedRoutes> newest_;
  std::function<void()> listener_;
};

}  // namespace neutrino::cloud
