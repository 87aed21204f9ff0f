// An endpoint as it is wanted: a name with a URL, the deployments that share its requests, and how many replicas they get. This is what
// people write (the API, `apply -f`); what follows from it, replica by replica, is in resources.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/fields.h"
#include "cloud/autoscaler.h"
#include "cloud/resources.h"
#include "cloud/route_table.h"

namespace neutrino::cloud {

struct EnvironmentVariable {
  std::string name;
  std::string value;
  std::string secret;  // the name of a secret of the workspace, instead of a value
  static constexpr auto fields() {
    using E = EnvironmentVariable;
    return std::tuple(field("name", &E::name), field("value", &E::value),
                      field("secret", &E::secret, {.help = "name of a secret, instead of a value"}));
  }
};

struct DeploymentSpec {
  std::string name = "main";           // unique in the endpoint
  std::string model;                   // served by `neutrino serve`
  std::vector<std::string> arguments;  // further ones of it
  std::vector<std::string> command;    // instead of a model: any program that serves HTTP
  std::vector<EnvironmentVariable> environment;
  std::string shape;                // how large a replica is, by name; or
  int64_t memory_bytes = 0;         // 0: the shape's, or what the model is predicted to need
  double cores = 0;                 // 0: the shape's, or no limit
  std::string ready_path;           // asked with GET until it answers; empty: neutrino serve's
  int64_t weight = 100;             // its share of the requests, beside the other deployments' weights
  int64_t shadow_percent = 0;       // of the others' requests it gets copies, whose answers are thrown away
  std::optional<int64_t> replicas;  // always so many; absent: its share of what the endpoint's scaling says
  RolloutPolicy rollout;
  int64_t drain_timeout_ms = 300'000;
  int64_t stop_grace_ms = 10'000;
  int64_t revision = 0;                // of what makes its replicas different; counted by the API
  int64_t memory_predicted_bytes = 0;  // that a replica needs by its model's figures; 0: not known
  static constexpr auto fields() {
    using D = DeploymentSpec;
    return std::tuple(
        field("name", &D::name), field("model", &D::model, {.help = "served by neutrino serve"}),
        field("arguments", &D::arguments, {.help = "further ones of neutrino serve"}),
        field("command", &D::command,
              {.help = "instead of a model: a program that serves HTTP; {host}, {port} and {neutrino} are "
                       "filled in"}),
        field("environment", &D::environment), field("shape", &D::shape),
        field("memory_bytes", &D::memory_bytes, {.help = "0: the shape's, or what the model needs"}),
        field("cores", &D::cores, {.help = "0: the shape's, or no limit"}),
        field("ready_path", &D::ready_path), field("weight", &D::weight),
        field("shadow_percent", &D::shadow_percent),
        field("replicas", &D::replicas, {.help = "always so many; null: the endpoint's scaling"}),
        field("rollout", &D::rollout), field("drain_timeout_ms", &D::drain_timeout_ms),
        field("stop_grace_ms", &D::stop_grace_ms), field("revision", &D::revision, {.read_only = true}),
        field("memory_predicted_bytes", &D::memory_predicted_bytes,
              {.read_only = true, .help = "what a replica needs, by its model's figures"}));
  }
};

struct Endpoint {
  std::string id;  // "chat-k3f9a2"; replicas are named after it
  std::string workspace;
  std::string name;  // unique in the workspace: the `model` of requests
  std::vector<std::string> aliases;
  std::vector<std::string> adapters;
  std::string policy = "least_loaded";
  std::string sticky_header;
  UseLimits limits;
  int64_t output_tokens_max = 4096;
  int64_t held_max = limits::kHeldRequests;
  int64_t wake_timeout_ms = limits::kWakeSeconds * 1000;
  int64_t first_byte_timeout_ms = 600'000;
  bool paused = false;  // no replicas, and requests get a 503 at once
  ScalingPolicy scaling;
  std::vector<DeploymentSpec> deployments;
  std::optional<int64_t> scaled_to;  // by an operator's hand
  int64_t scaled_ms = 0;             // and when
  int64_t created_ms = 0;
  int64_t etag = 0;
  static constexpr auto fields() {
    using E = Endpoint;
    return std::tuple(
        field("id", &E::id, {.key = true, .read_only = true}),
        field("workspace", &E::workspace, {.read_only = true}), field("name", &E::name, {.immutable = true}),
        field("aliases", &E::aliases, {.help = "further names of it"}),
        field("adapters", &E::adapters, {.help = "names that its replicas know themselves"}),
        field("policy", &E::policy, {.help = "least_loaded, prefix, sticky, header or round_robin"}),
        field("sticky_header", &E::sticky_header), field("limits", &E::limits),
        field("output_tokens_max", &E::output_tokens_max), field("held_max", &E::held_max),
        field("wake_timeout_ms", &E::wake_timeout_ms),
        field("first_byte_timeout_ms", &E::first_byte_timeout_ms), field("paused", &E::paused),
        field("scaling", &E::scaling), field("deployments", &E::deployments),
        field("scaled_to", &E::scaled_to, {.read_only = true}),
        field("scaled_ms", &E::scaled_ms, {.read_only = true}),
        field("created_ms", &E::created_ms, {.read_only = true}),
        field("etag", &E::etag, {.read_only = true}));
  }
};

// A name under which requests find an endpoint: its own, an alias or an adapter. The row is what makes it the only one of its
// workspace; the API writes these with the endpoint.
struct EndpointName {
  std::string workspace;
  std::string name;
  std::string endpoint;  // id
  static constexpr auto fields() {
    using N = EndpointName;
    return std::tuple(field("workspace", &N::workspace, {.key = true}),
                      field("name", &N::name, {.key = true}), field("endpoint", &N::endpoint));
  }
};

// What a deployment was at a revision, for people who go back.
struct Revision {
  std::string endpoint;    // id
  std::string deployment;  // name
  int64_t revision = 0;
  std::string workspace;
  DeploymentSpec spec;
  std::string author;
  int64_t created_ms = 0;
  static constexpr auto fields() {
    using R = Revision;
    return std::tuple(
        field("endpoint", &R::endpoint, {.key = true}), field("deployment", &R::deployment, {.key = true}),
        field("revision", &R::revision, {.key = true}), field("workspace", &R::workspace),
        field("spec", &R::spec), field("author", &R::author), field("created_ms", &R::created_ms));
  }
};

// ---- where replicas run

// How large a replica is, by name.
struct Shape {
  std::string name;
  int64_t memory_bytes = 0;
  double cores = 0;
  int64_t price_per_hour = 0;  // nanodollars of a replica's hour
  int64_t etag = 0;
  static constexpr auto fields() {
    using S = Shape;
    return std::tuple(
        field("name", &S::name, {.key = true, .immutable = true}), field("memory_bytes", &S::memory_bytes),
        field("cores", &S::cores),
        field("price_per_hour", &S::price_per_hour, {.help = "nanodollars of a replica's hour"}),
        field("etag", &S::etag, {.read_only = true}));
  }
};

struct NodeGroup {
  std::string name;
  std::string provider = "local";
  std::vector<std::string> workspaces;  // that may place replicas there; empty: all
  int64_t etag = 0;
  static constexpr auto fields() {
    using G = NodeGroup;
    return std::tuple(field("name", &G::name, {.key = true, .immutable = true}),
                      field("provider", &G::provider, {.immutable = true}),
                      field("workspaces", &G::workspaces), field("etag", &G::etag, {.read_only = true}));
  }
};

// A machine as its provider last described it.
struct Node {
  std::string name;
  std::string node_group;
  std::string phase;  // "ready", "missing"
  double cores = 0;
  int64_t memory_bytes = 0;
  int64_t memory_available_bytes = 0;
  std::string kernel_table;
  double memory_bytes_per_second = 0;  // 0: not measured
  int64_t seen_ms = 0;
  static constexpr auto fields() {
    using N = Node;
    return std::tuple(
        field("name", &N::name, {.key = true}), field("node_group", &N::node_group),
        field("phase", &N::phase), field("cores", &N::cores), field("memory_bytes", &N::memory_bytes),
        field("memory_available_bytes", &N::memory_available_bytes), field("kernel_table", &N::kernel_table),
        field("memory_bytes_per_second", &N::memory_bytes_per_second), field("seen_ms", &N::seen_ms));
  }
};

}  // namespace neutrino::cloud
