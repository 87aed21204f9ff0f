#include "cloud/api/endpoint_checks.h"

#include <algorithm>
#include <array>
#include <set>

#include "cloud/api/field_checks.h"
#include "cloud/limits.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kDayMs = 86'400'000;
constexpr std::array<std::string_view, 5> kPolicies{"least_loaded", "prefix", "sticky", "header",
                                                    "round_robin"};
// Given by whoever starts the replica.
constexpr std::array<std::string_view, 4> kReservedArguments{"--host", "--port", "--api-key",
                                                             "--served-model-name"};
constexpr std::string_view kReservedVariable = "NEUTRINO_API_KEY";  // likewise, of a model's replicas

std::string at(std::string_view list, size_t index) { return fmt::format("{}[{}]", list, index); }

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// ---- names

// What requests may say as their `model`: also "meta-llama/Llama-3.1-8B:fast".
void check_alias(const std::string& path, std::string_view text) {
  const auto allowed = [](char c) {
    return is_letter(c) || is_digit(c) || std::string_view("._:/@+-").find(c) != std::string_view::npos;
  };
  if (text.empty() || text.size() > 128 || !std::ranges::all_of(text, allowed))
    refuse_field(path, "1-128 letters, digits and any of ._:/@+-", text);
}

void check_names(const Endpoint& endpoint) {
  check_name("name", endpoint.name, 63);
  std::set<std::string_view> names{endpoint.name};
  const auto check_all = [&](std::string_view list, const std::vector<std::string>& all) {
    check_count(std::string(list), std::ssize(all), limits::kEndpointNames);
    for (size_t i = 0; i < all.size(); ++i) {
      check_alias(at(list, i), all[i]);
      if (!names.insert(all[i]).second) refuse_field(at(list, i), "a name that is there once", all[i]);
    }
  };
  check_all("aliases", endpoint.aliases);
  check_all("adapters", endpoint.adapters);
}

// ---- how requests are spread and limited

void check_header_name(const std::string& path, std::string_view text) {
  const auto allowed = [](char c) { return is_letter(c) || is_digit(c) || c == '-' || c == '_'; };
  if (text.size() > 64 || !std::ranges::all_of(text, allowed))
    refuse_field(path, "the name of a header", text);
}

void check_gateway_part(const Endpoint& endpoint) {
  if (std::ranges::find(kPolicies, endpoint.policy) == kPolicies.end())
    refuse_field("policy", "least_loaded, prefix, sticky, header or round_robin", endpoint.policy);
  check_header_name("sticky_header", endpoint.sticky_header);
  check_limits("limits", endpoint.limits);
  check_range("output_tokens_max", endpoint.output_tokens_max, 1, 10'000'000);
  check_range("held_max", endpoint.held_max, 0, limits::kHeldRequestsTotal);
  check_range("wake_timeout_ms", endpoint.wake_timeout_ms, 0, kDayMs);
  check_range("first_byte_timeout_ms", endpoint.first_byte_timeout_ms, 1, kDayMs);
}

void check_scaling(const ScalingPolicy& scaling) {
  try {
    validate(scaling);
  } catch (const Error& error) {
    throw Error(error.code(), "scaling." + error.message()).with_param("scaling." + error.param());
  }
  check_range("scaling.replicas_max", scaling.replicas_max, 0, limits::kEndpointReplicas);
  check_count("scaling.schedule", std::ssize(scaling.schedule), 64);
}

// ---- deployments

void check_texts(const std::string& path, const std::vector<std::string>& texts) {
  check_count(path, std::ssize(texts), limits::kCommandArguments);
  for (size_t i = 0; i < texts.size(); ++i)
    if (texts[i].find('\0') != std::string::npos || std::ssize(texts[i]) > limits::kEnvironmentBytes)
      refuse_field(at(path, i), fmt::format("a text of at most {} bytes", limits::kEnvironmentBytes),
                   texts[i]);
}

void check_arguments(const std::string& path, const std::vector<std::string>& arguments) {
  check_texts(path, arguments);
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string_view name = std::string_view(arguments[i]).substr(0, arguments[i].find('='));
    if (std::ranges::find(kReservedArguments, name) != kReservedArguments.end())
      refuse_field(at(path, i), "an argument that is not given to all replicas", arguments[i]);
  }
}

void check_program(const std::string& path, const DeploymentSpec& spec) {
  if (spec.model.empty() == spec.command.empty())
    refuse_field(path + ".model", "given, or a command instead of it", spec.model);
  check_line(path + ".model", spec.model, 512);
  if (!spec.command.empty() && spec.command.front().empty())
    refuse_field(path + ".command[0]", "a program", "");
  if (!spec.command.empty() && !spec.arguments.empty())
    refuse_field(path + ".arguments", "absent beside a command", spec.arguments.front());
  check_arguments(path + ".arguments", spec.arguments);
  check_texts(path + ".command", spec.command);
  const bool is_path = spec.ready_path.empty() || spec.ready_path.front() == '/';
  const auto visible = [](char c) { return c > ' ' && c < 127; };
  if (!is_path || spec.ready_path.size() > 512 || !std::ranges::all_of(spec.ready_path, visible))
    refuse_field(path + ".ready_path", "a path such as /health", spec.ready_path);
}

void check_variable(const std::string& path, const EnvironmentVariable& variable) {
  const auto allowed = [](char c) { return is_letter(c) || is_digit(c) || c == '_'; };
  if (variable.name.empty() || variable.name.size() > 128 || is_digit(variable.name.front()) ||
      !std::ranges::all_of(variable.name, allowed))
    refuse_field(path + ".name", "1-128 letters, digits and '_', the first no digit", variable.name);
  if (!variable.value.empty() && !variable.secret.empty())
    refuse_field(path + ".secret", "absent beside a value", variable.secret);
  check_texts(path + ".value", {variable.value});
}

void check_environment(const std::string& path, const DeploymentSpec& spec) {
  const std::vector<EnvironmentVariable>& environment = spec.environment;
  check_count(path, std::ssize(environment), limits::kEnvironmentVariables);
  std::set<std::string_view> names;
  for (size_t i = 0; i < environment.size(); ++i) {
    check_variable(at(path, i), environment[i]);
    if (!names.insert(environment[i].name).second)
      refuse_field(at(path, i) + ".name", "a name that is there once", environment[i].name);
    if (!spec.model.empty() && environment[i].name == kReservedVariable)
      refuse_field(at(path, i) + ".name", "another: replicas of a model get a key of their own",
                   kReservedVariable);
  }
}

void check_rollout(const std::string& path, const RolloutPolicy& rollout) {
  check_range(path + ".surge_max", rollout.surge_max, 0, limits::kEndpointReplicas);
  check_range(path + ".unavailable_max", rollout.unavailable_max, 0, limits::kEndpointReplicas);
  if (rollout.surge_max == 0 && rollout.unavailable_max == 0)
    refuse_field(path + ".surge_max", "1 or more where unavailable_max is 0: else nothing can move", "0");
}

void check_deployment(const std::string& path, const DeploymentSpec& spec) {
  check_slug(path + ".name", spec.name, 16);
  check_program(path, spec);
  check_environment(path + ".environment", spec);
  check_range(path + ".memory_bytes", spec.memory_bytes, 0, limits::kReplicaMemoryBytes);
  check_number(path + ".cores", spec.cores, 0, limits::kReplicaCores);
  check_range(path + ".weight", spec.weight, 0, 1'000'000);
  check_range(path + ".shadow_percent", spec.shadow_percent, 0, 100);
  check_range(path + ".replicas", spec.replicas.value_or(0), 0, limits::kEndpointReplicas);
  check_rollout(path + ".rollout", spec.rollout);
  check_range(path + ".drain_timeout_ms", spec.drain_timeout_ms, 0, kDayMs);
  check_range(path + ".stop_grace_ms", spec.stop_grace_ms, 0, kDayMs);
}

void check_deployments(const std::vector<DeploymentSpec>& deployments) {
  if (deployments.empty()) refuse_field("deployments", "at least one", "none");
  check_count("deployments", std::ssize(deployments), limits::kEndpointDeployments);
  std::set<std::string_view> names;
  int64_t weight = 0;
  for (size_t i = 0; i < deployments.size(); ++i) {
    check_deployment(at("deployments", i), deployments[i]);
    if (!names.insert(deployments[i].name).second)
      refuse_field(at("deployments", i) + ".name", "a name that is there once", deployments[i].name);
    weight += deployments[i].weight;
  }
  if (weight == 0) refuse_field("deployments[0].weight", "above 0 for one of the deployments", "0");
}

// ---- what it names

void check_memory(const std::string& path, const DeploymentSpec& spec, int64_t shape_bytes) {
  const int64_t given = spec.memory_bytes > 0 ? spec.memory_bytes : shape_bytes;
  if (given == 0 || spec.memory_predicted_bytes <= given) return;
  const std::string field = path + (spec.memory_bytes > 0 ? ".memory_bytes" : ".shape");
  throw make_error(ErrorCode::invalid_argument, "{} gives {} bytes, but '{}' needs {}", field, given,
                   spec.model, spec.memory_predicted_bytes)
      .with_param(field);
}

void check_secrets(const Tables& tables, store::Transaction& transaction, const std::string& workspace,
                   const std::string& path, const std::vector<EnvironmentVariable>& environment) {
  for (size_t i = 0; i < environment.size(); ++i) {
    const std::string& name = environment[i].secret;
    if (name.empty()) continue;
    const std::vector<store::Filter> filters{{.field = "workspace", .value = workspace},
                                             {.field = "name", .value = name}};
    if (tables.secrets.count(transaction, filters) == 0)
      refuse_field(at(path, i) + ".secret", "the name of a secret of the workspace", name);
  }
}

}  // namespace

void check_endpoint_fields(const Endpoint& endpoint) {
  check_names(endpoint);
  check_gateway_part(endpoint);
  check_scaling(endpoint.scaling);
  check_deployments(endpoint.deployments);
}

void check_endpoint_references(const Tables& tables, store::Transaction& transaction,
                               const Endpoint& endpoint) {
  for (size_t i = 0; i < endpoint.deployments.size(); ++i) {
    const DeploymentSpec& spec = endpoint.deployments[i];
    const std::string path = at("deployments", i);
    std::optional<Shape> shape;
    if (!spec.shape.empty()) {
      shape = tables.shapes.find(transaction, spec.shape);
      if (!shape) refuse_field(path + ".shape", "the name of a shape", spec.shape);
    }
    check_memory(path, spec, shape ? shape->memory_bytes : 0);
    check_secrets(tables, transaction, endpoint.workspace, path + ".environment", spec.environment);
  }
}

}  // namespace neutrino::cloud
