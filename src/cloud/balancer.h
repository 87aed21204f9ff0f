// Which replica gets a request: picking as a pure bookkeeping of loads, without a clock, sockets or threads.
//
// Least loaded of two random replicas, by tokens in flight, is the default: two choices bring most of the gain of knowing all, and
// do not herd onto the one that just became idle. `prefix` prefers the replica that has computed the prompt's beginning before: a
// prompt's text is cut into 256-byte chunks whose hashes are chained, so that one hash stands for all text up to there, and each
// replica has an LRU index of the hashes that it has seen, about as large as its cache. score = 2·match − load / mean load − cache in use,
// among the replicas that are not much busier than the mean (the guard); where no replica knows more than a little of the prompt it is
// least-loaded all the same. Ideas: Mitzenmacher, "The power of two choices" (1996); GIE's approximate prefix index.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/random.h"
#include "cloud/route_table.h"

namespace neutrino::cloud {

// The chained hashes of a text's whole chunks; `salt`: of whatever else makes two prompts different (model, adapter, workspace).
std::vector<uint64_t> prefix_hashes(std::string_view salt, std::string_view text);

// The hashes that a replica's cache may still hold, least recently used first out.
class PrefixIndex {
 public:
  explicit PrefixIndex(int64_t capacity) : capacity_(capacity) {}
  int64_t match(std::span<const uint64_t> hashes) const;  // how many, from the first
  void add(std::span<const uint64_t> hashes);
  void set_capacity(int64_t capacity);
  int64_t size() const { return static_cast<int64_t>(places_.size()); }

 private:
  void shrink();
  int64_t capacity_;
  std::list<uint64_t> order_;  // the first was used last
  std::unordered_map<uint64_t, std::list<uint64_t>::iterator> places_;
};

// What the gateway knows of a replica besides its address. Shared by the balancer and the requests that run there, so it outlives the
// replica's route.
struct ReplicaLoad {
  explicit ReplicaLoad(const ReplicaRoute& from);
  ReplicaRoute route;
  int64_t requests = 0;  // in flight
  int64_t tokens = 0;    // of these: prompt (estimated) and the answer so far expected
  PrefixIndex prefixes;
  int64_t failures = 0;  // one after the other
  int64_t ejections = 0;
  int64_t ejected_until_ns = 0;
};

struct PickRequest {
  std::span<const uint64_t> prefix;                     // prefix_hashes() of the prompt
  std::string_view sticky;                              // what sticks; empty: nothing does
  std::string_view replica;                             // id that a header asks for; empty: any
  std::span<const std::shared_ptr<ReplicaLoad>> tried;  // not these again
  int64_t now_ns = 0;
};

struct Pick {
  std::shared_ptr<const DeploymentRoute> deployment;  // of the table that the pick was made with
  std::shared_ptr<ReplicaLoad> replica;
};

// The replicas of one endpoint. One thread.
class Balancer {
 public:
  explicit Balancer(uint64_t seed) : random_(seed) {}

  // Takes over what a new table says; loads of replicas that stay are kept.
  void update(std::shared_ptr<const EndpointRoute> endpoint);

  // nullopt: no replica is there for it now.
  std::optional<Pick> pick(const PickRequest& request);
  std::optional<Pick> pick_shadow(const PickRequest& request);  // where a copy goes; mostly nowhere

  void started(const Pick& pick, int64_t tokens, std::span<const uint64_t> prefix);
  void finished(const Pick& pick, int64_t tokens);
  // Of the replica, not of the request: connections refused or cut, answers of 5xx. Three failures in a row put it aside for a while,
  // unless half of the replicas are aside already.
  void outcome(const Pick& pick, bool good, int64_t now_ns);

  bool has_replica(int64_t now_ns) const;
  const EndpointRoute& endpoint() const { return *endpoint_; }
  const std::map<std::string, std::shared_ptr<ReplicaLoad>>& replicas() const { return replicas_; }  // by id

 private:
  struct Group {
    std::shared_ptr<const DeploymentRoute> deployment;
    std::vector<std::shared_ptr<ReplicaLoad>> replicas;
  };
  using Candidates = std::vector<std::shared_ptr<ReplicaLoad>>;

  Candidates candidates(const Group& group, const PickRequest& request) const;
  std::shared_ptr<ReplicaLoad> choose(const Candidates& from, const PickRequest& request);
  std::shared_ptr<ReplicaLoad> least_loaded(const Candidates& from);
  std::shared_ptr<ReplicaLoad> by_prefix(const Candidates& from, const PickRequest& request);
  double draw(const PickRequest& request);

  std::shared_ptr<const EndpointRoute> endpoint_;
  std::vector<Group> groups_;
  std::map<std::string, std::shared_ptr<ReplicaLoad>> replicas_;  // by id
  Random random_;
  uint64_t turn_ = 0;  // of round robin
};

}  // namespace neutrino::cloud
