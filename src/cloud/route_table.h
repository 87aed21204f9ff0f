// What a gateway knows: endpoints with their deployments and replicas, API keys, budgets. An immutable snapshot that the control plane
// makes and the gateway replaces as a whole; while the control plane is away, the last one stays good.
//
// Structs with fields(), so that a table travels as JSON. Amounts of money are in nanodollars (a token at $0.02 per million costs 20).
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/fields.h"
#include "base/sha256.h"
#include "cloud/limits.h"

namespace neutrino::cloud {

struct ReplicaRoute {
  std::string id;
  std::string host;  // an IP address
  int64_t port = 0;
  bool draining = false;     // finishes what it has, gets nothing new
  int64_t cache_tokens = 0;  // of its prefix cache; 0: not known
  static constexpr auto fields() {
    return std::tuple(field("id", &ReplicaRoute::id), field("host", &ReplicaRoute::host),
                      field("port", &ReplicaRoute::port), field("draining", &ReplicaRoute::draining),
                      field("cache_tokens", &ReplicaRoute::cache_tokens));
  }
};

// One revision of an endpoint. Only ready replicas are listed.
struct DeploymentRoute {
  std::string id;
  std::string model;     // the name under which its replicas know it; empty: as the client wrote it
  int64_t weight = 100;  // its share of the requests, beside the other deployments' weights
  int64_t shadow_percent =
      0;                // of the requests that others answer, it gets a copy; what it answers is thrown away
  std::string api_key;  // that its replicas ask for; empty: none
  std::vector<ReplicaRoute> replicas;
  static constexpr auto fields() {
    return std::tuple(field("id", &DeploymentRoute::id), field("model", &DeploymentRoute::model),
                      field("weight", &DeploymentRoute::weight),
                      field("shadow_percent", &DeploymentRoute::shadow_percent),
                      field("api_key", &DeploymentRoute::api_key, {.secret = true}),
                      field("replicas", &DeploymentRoute::replicas));
  }
};

// What one key, or all requests to one endpoint, may use. 0 or empty: no limit.
struct UseLimits {
  int64_t requests_per_minute = 0;
  int64_t tokens_per_minute = 0;
  int64_t concurrency = 0;             // requests at once, held ones included
  std::vector<std::string> addresses;  // "10.0.0.0/8", "::1": who may come
  static constexpr auto fields() {
    return std::tuple(field("requests_per_minute", &UseLimits::requests_per_minute),
                      field("tokens_per_minute", &UseLimits::tokens_per_minute),
                      field("concurrency", &UseLimits::concurrency),
                      field("addresses", &UseLimits::addresses));
  }
};

// Nanodollars per token.
struct TokenPrices {
  int64_t input = 0;
  int64_t cached_input = 0;
  int64_t output = 0;  // reasoning tokens included
  static constexpr auto fields() {
    return std::tuple(field("input", &TokenPrices::input), field("cached_input", &TokenPrices::cached_input),
                      field("output", &TokenPrices::output));
  }
};

struct EndpointRoute {
  std::string id;
  std::string workspace;
  std::string name;                     // unique in its workspace, with all aliases and adapters
  std::vector<std::string> aliases;     // further names of it
  std::vector<std::string> adapters;    // names that its replicas know themselves
  std::string policy = "least_loaded";  // "prefix", "sticky", "header", "round_robin"
  std::string sticky_header;            // what sticks to a replica; empty: the API key
  UseLimits limits;
  TokenPrices prices;
  int64_t output_tokens_max =
      4096;  // reserved of a budget where a request does not limit its answer, and then its limit
  int64_t held_max = limits::kHeldRequests;  // requests that wait for a replica
  int64_t wake_timeout_ms = limits::kWakeSeconds * 1000;
  int64_t first_byte_timeout_ms = 600'000;
  bool paused = false;  // nothing is held: 503 at once
  std::vector<DeploymentRoute> deployments;
  static constexpr auto fields() {
    return std::tuple(field("id", &EndpointRoute::id), field("workspace", &EndpointRoute::workspace),
                      field("name", &EndpointRoute::name), field("aliases", &EndpointRoute::aliases),
                      field("adapters", &EndpointRoute::adapters), field("policy", &EndpointRoute::policy),
                      field("sticky_header", &EndpointRoute::sticky_header),
                      field("limits", &EndpointRoute::limits), field("prices", &EndpointRoute::prices),
                      field("output_tokens_max", &EndpointRoute::output_tokens_max),
                      field("held_max", &EndpointRoute::held_max),
                      field("wake_timeout_ms", &EndpointRoute::wake_timeout_ms),
                      field("first_byte_timeout_ms", &EndpointRoute::first_byte_timeout_ms),
                      field("paused", &EndpointRoute::paused),
                      field("deployments", &EndpointRoute::deployments));
  }
};

struct KeyRoute {
  std::string id;
  std::string workspace;
  std::string member;
  std::string digest;     // SHA-256 of the key, 64 hex digits
  bool inference = true;  // may it call endpoints at all
  bool revoked = false;
  int64_t expires_ms = 0;           // Unix time; 0: never
  std::vector<std::string> models;  // names of endpoints that it may call; empty: all of its workspace
  UseLimits limits;
  std::vector<std::string> budgets;  // hard ones that its requests count against
  static constexpr auto fields() {
    return std::tuple(field("id", &KeyRoute::id), field("workspace", &KeyRoute::workspace),
                      field("member", &KeyRoute::member), field("digest", &KeyRoute::digest),
                      field("inference", &KeyRoute::inference), field("revoked", &KeyRoute::revoked),
                      field("expires_ms", &KeyRoute::expires_ms), field("models", &KeyRoute::models),
                      field("limits", &KeyRoute::limits), field("budgets", &KeyRoute::budgets));
  }
};

// A hard limit on what may be spent in its period, by all keys that name it.
struct BudgetRoute {
  std::string id;
  std::string unit = "nanodollars";  // or "tokens"
  int64_t limit = 0;
  int64_t spent = 0;  // by usage up to RouteTable::usage_sequence
  static constexpr auto fields() {
    return std::tuple(field("id", &BudgetRoute::id), field("unit", &BudgetRoute::unit),
                      field("limit", &BudgetRoute::limit), field("spent", &BudgetRoute::spent));
  }
};

struct RouteTable {
  int64_t version = 0;
  int64_t usage_sequence = 0;  // the last of this gateway's usage records that the budgets' `spent` contains
  std::vector<EndpointRoute> endpoints;
  std::vector<KeyRoute> keys;
  std::vector<BudgetRoute> budgets;
  static constexpr auto fields() {
    return std::tuple(field("version", &RouteTable::version),
                      field("usage_sequence", &RouteTable::usage_sequence),
                      field("endpoints", &RouteTable::endpoints), field("keys", &RouteTable::keys),
                      field("budgets", &RouteTable::budgets));
  }
};

// A table that can be looked up. Made once per table, on any thread; borrowed pointers are into its own copy.
class RouteIndex {
 public:
  // Throws Error{invalid_argument} for two endpoints with one name in a workspace, two keys with one digest, an unknown policy, a
  // bad address or digest.
  explicit RouteIndex(RouteTable table);

  struct Model {
    const EndpointRoute* endpoint = nullptr;
    bool is_adapter = false;  // its replicas know it by this name
  };
  const KeyRoute* key(const Sha256Digest& digest) const;                 // null: unknown
  Model model(std::string_view workspace, std::string_view name) const;  // name, alias or adapter
  std::vector<std::string_view> models(const KeyRoute& key) const;       // that it may call
  const RouteTable& table() const { return table_; }

 private:
  RouteTable table_;
  struct DigestHash {  // a part of a hash is a hash
    size_t operator()(const Sha256Digest& digest) const;
  };
  std::unordered_map<Sha256Digest, const KeyRoute*, DigestHash> keys_;
  std::map<std::pair<std::string_view, std::string_view>, Model> models_;
};

bool may_call(const KeyRoute& key, const EndpointRoute& endpoint, std::string_view name);

// Is an IP address ("10.1.2.3", "::1") in one of the ranges? An empty list allows all. An IPv4 address mapped into IPv6 counts as itself.
bool address_allowed(const std::vector<std::string>& ranges, std::string_view address);
bool is_address_range(std::string_view text);

}  // namespace neutrino::cloud
