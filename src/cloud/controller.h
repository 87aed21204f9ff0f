// The thread that makes the cloud what its rows say: endpoints to deployments, deployments to replicas, replicas to routes.
//
// One loop: what has changed in the database → how many replicas each endpoint should have → a tick of the reconciler → whom
// the prober asks → the route table for gateways. It is level-triggered like the reconciler in it: everything it needs is in rows, and what
// it remembers besides may be lost. It sleeps until something wakes it (a change, a verdict, a request that waits) or a second is over.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/clock.h"
#include "cloud/desired.h"
#include "cloud/gateway_book.h"
#include "cloud/prober.h"
#include "cloud/publisher.h"
#include "cloud/reconciler.h"
#include "cloud/scaler.h"
#include "cloud/schema.h"
#include "cloud/state_rows.h"
#include "cloud/usage_ledger.h"
#include "store/change_log.h"

namespace neutrino::cloud {

struct ControllerOptions {
  ServeProgram program;
  ReconcilerOptions reconciler;
  std::string node_group = "local";
};

// What it works with. Borrowed.
struct ControllerParts {
  store::Database& database;
  const Tables& tables;
  Provider& provider;
  Prober& prober;
  GatewayBook& gateways;
  RouteBoard& routes;
  const UsageLedger& ledger;
  const Clock& clock;
  // The values of a template's secrets, as "NAME=value". Throws Error for one that is not there.
  std::function<std::vector<std::string>(const Replica&)> secrets;
  std::function<std::string(const std::string& deployment)> replica_key;
  std::function<bool(const std::string& replica)> may_remove;  // see ReplicaSignals
};

class Controller {
 public:
  Controller(ControllerParts parts, ControllerOptions options);
  ~Controller();

  void run();            // until stop(); errors of the database are tried again
  void stop();           // any thread
  void wake();           // any thread: look now
  void spent_changed();  // any thread: budgets have to be told to the gateways

  // One turn of the loop; for tests, instead of run().
  void turn();

 private:
  void load();
  void take_changes();
  void read_changes();
  void read_endpoints(const std::set<std::string>& ids);
  void read_accounts();
  void add_changed(const Endpoint& endpoint, std::vector<Deployment>& changed) const;
  void set_deployments(std::vector<Deployment> changed, const std::vector<Event>& events = {});
  void take_endpoints();
  Deployment wanted(const Endpoint& endpoint, const DeploymentSpec& spec, int64_t replicas) const;
  void scale();
  std::map<std::string, ReplicaCounts> count_replicas() const;
  void apply_shares(const std::string& endpoint, std::vector<Event> events);
  void reconcile();
  ReplicaSignals signals();
  void probe();
  void publish();
  void note_nodes();
  void retire_gone();
  bool is_busy() const;
  void wait_for_something();
  ReplicaSpec describe(const Replica& replica) const;

  ControllerParts parts_;
  const ControllerOptions options_;
  StoredState rows_;
  std::unique_ptr<Reconciler> reconciler_;
  std::map<std::string, Endpoint> endpoints_;  // by id
  Accounts accounts_;
  Shapes shapes_;
  Scaler scaler_;
  int64_t seen_ = -1;                              // of the change log; -1: load everything
  bool changed_ = true;                            // something that a route table is made of
  bool retiring_ = true;                           // there may be deployments that no endpoint wants
  std::map<std::string, int64_t> draining_since_;  // replicas: the version that first said so
  int64_t scaled_ms_ = 0, nodes_ms_ = 0;

  std::mutex mutex_;  // of the rest
  std::condition_variable woken_;
  bool wake_ = false, stopping_ = false, spent_changed_ = false;
};

}  // namespace neutrino::cloud
