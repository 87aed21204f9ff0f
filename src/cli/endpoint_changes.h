// Flags of `neutrino endpoint create` and `update` as changes of an endpoint's JSON. Pure, so that it can be tested without a server.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace CLI {
class App;
}

namespace neutrino::cli {

struct EndpointFlags {
  std::optional<std::string> model, shape, memory, policy, idle_timeout, ready_path;
  std::vector<std::string> arguments, command, environment, secrets, aliases, sets;
  std::optional<int64_t> replicas, replicas_min, replicas_max, weight, shadow_percent;
  std::optional<double> cores;
  std::string deployment;  // which one; empty: the only one
  std::string removed_deployment;
};

void add_endpoint_flags(CLI::App& app, EndpointFlags& flags);

// What is to be sent: of an endpoint that is `current` (null: it is to be made) only what changes, as a merge patch; of deployments,
// which are an array, all. Throws Error{invalid_argument} that names the flag.
json::object endpoint_changes(const EndpointFlags& flags, const json::value& current);

}  // namespace neutrino::cli
