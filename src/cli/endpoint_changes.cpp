#include "cli/endpoint_changes.h"

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "cli/load.h"
#include "cli/terminal/words.h"
#include "cli/terminal/yaml.h"
#include "cloud/endpoint.h"

namespace neutrino::cli {
namespace {

std::pair<std::string, std::string> assignment(std::string_view flag, const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == text.npos || equals == 0)
    throw make_error(ErrorCode::invalid_argument, "{} must be NAME=VALUE, got \"{}\"", flag, text);
  return {text.substr(0, equals), text.substr(equals + 1)};
}

json::array strings(const std::vector<std::string>& texts) { return json::array(texts.begin(), texts.end()); }

// In place of the variable with its name, or beside the others.
void put_variable(json::object& deployment, json::object variable) {
  json::value& list = deployment["environment"];
  if (!list.is_array()) list = json::array();
  json::array& variables = list.get_array();
  for (json::value& there : variables)
    if (there.at("name") == variable.at("name")) return void(there = std::move(variable));
  variables.push_back(std::move(variable));
}

void set_environment(const EndpointFlags& flags, json::object& deployment) {
  for (const std::string& text : flags.environment) {
    const auto [name, value] = assignment("--env", text);
    put_variable(deployment, {{"name", name}, {"value", value}});
  }
  for (const std::string& text : flags.secrets) {
    const auto [name, secret] = assignment("--env-secret", text);
    put_variable(deployment, {{"name", name}, {"secret", secret}});
  }
}

bool set_deployment(const EndpointFlags& flags, json::object& deployment) {
  const json::object before = deployment;
  if (flags.model) deployment["model"] = *flags.model, deployment.erase("command");
  if (!flags.command.empty()) deployment["command"] = strings(flags.command), deployment.erase("model");
  if (!flags.arguments.empty()) deployment["arguments"] = strings(flags.arguments);
  if (flags.shape) deployment["shape"] = *flags.shape;
  if (flags.memory) deployment["memory_bytes"] = parse_size("--memory", *flags.memory);
  if (flags.cores) deployment["cores"] = *flags.cores;
  if (flags.ready_path) deployment["ready_path"] = *flags.ready_path;
  if (flags.weight) deployment["weight"] = *flags.weight;
  if (flags.shadow_percent) deployment["shadow_percent"] = *flags.shadow_percent;
  if (flags.replicas)
    deployment["replicas"] = *flags.replicas < 0 ? json::value(nullptr) : json::value(*flags.replicas);
  set_environment(flags, deployment);
  return deployment != before;
}

json::object* named(json::array& deployments, std::string_view name) {
  for (json::value& deployment : deployments)
    if (deployment.at("name").as_string() == name) return &deployment.get_object();
  return nullptr;
}

// The one that the flags mean; it is added where it is not there.
json::object& meant_deployment(const EndpointFlags& flags, json::array& deployments) {
  if (flags.deployment.empty() && deployments.size() > 1)
    throw make_error(ErrorCode::invalid_argument,
                     "this endpoint has {} deployments: say which one with --deployment", deployments.size());
  if (flags.deployment.empty() && deployments.size() == 1) return deployments[0].as_object();
  const std::string name = flags.deployment.empty() ? "main" : flags.deployment;
  if (json::object* there = named(deployments, name)) return *there;
  return deployments.emplace_back(json::object{{"name", name}}).as_object();
}

json::array current_deployments(const json::value& current) {
  if (!current.is_object()) return {};
  json::array deployments = current.at("deployments").as_array();
  for (json::value& deployment : deployments) {
    for_each_field<cloud::DeploymentSpec>([&](const auto& f) {
      if (f.options.read_only) deployment.as_object().erase(f.name);
    });
  }
  return deployments;
}

void remove_deployment(const EndpointFlags& flags, json::array& deployments) {
  if (flags.removed_deployment.empty()) return;
  if (!named(deployments, flags.removed_deployment))
    throw make_error(ErrorCode::not_found, "there is no deployment \"{}\"", flags.removed_deployment);
  auto* const gone = std::find_if(deployments.begin(), deployments.end(), [&](const json::value& deployment) {
    return deployment.at("name").as_string() == flags.removed_deployment;
  });
  deployments.erase(gone);
}

void set_deployments(const EndpointFlags& flags, const json::value& current, json::object& changes) {
  json::array deployments = current_deployments(current);
  const json::array before = deployments;
  remove_deployment(flags, deployments);
  json::object probe;
  if (set_deployment(flags, probe) || !current.is_object())
    set_deployment(flags, meant_deployment(flags, deployments));
  if (deployments != before) changes["deployments"] = std::move(deployments);
}

json::object& member_object(json::object& object, std::string_view name) {
  json::value& member = object[name];
  return member.is_object() ? member.get_object() : member.emplace_object();
}

// --set scaling.stable_window_s=30: the value as YAML has it.
void set_any(const std::string& text, json::object& changes) {
  const auto [path, value] = assignment("--set", text);
  json::object* object = &changes;
  size_t begin = 0;
  for (size_t dot = path.find('.'); dot != path.npos; begin = dot + 1, dot = path.find('.', begin))
    object = &member_object(*object, path.substr(begin, dot - begin));
  const auto documents = parse_yaml(value, "--set " + path);
  (*object)[path.substr(begin)] = documents.empty() ? json::value(nullptr) : documents.front().value;
}

void set_scaling(const EndpointFlags& flags, json::object& changes) {
  if (flags.replicas_min) member_object(changes, "scaling")["replicas_min"] = *flags.replicas_min;
  if (flags.replicas_max) member_object(changes, "scaling")["replicas_max"] = *flags.replicas_max;
  if (flags.idle_timeout)
    member_object(changes, "scaling")["idle_timeout_s"] =
        *flags.idle_timeout == "never" ? 0 : parse_duration("--idle-timeout", *flags.idle_timeout) / 1000;
}

}  // namespace

void add_endpoint_flags(CLI::App& app, EndpointFlags& flags) {
  const std::string replica = "A replica", scaling = "Scaling and routing";
  app.add_option("--model", flags.model, "a model of the store, served by `neutrino serve`")->group(replica);
  app.add_option("--argument", flags.arguments, "a further argument of `neutrino serve` (repeatable)")
      ->expected(1)
      ->take_all()
      ->group(replica);
  app.add_option("--command", flags.command,
                 "instead of a model: a word of a command that serves HTTP (repeatable); {port}, {host} and "
                 "{neutrino} are filled in")
      ->expected(1)
      ->take_all()
      ->group(replica);
  app.add_option("--env", flags.environment, "NAME=VALUE in its environment (repeatable)")
      ->expected(1)
      ->take_all()
      ->group(replica);
  app.add_option("--env-secret", flags.secrets,
                 "NAME=SECRET: a secret's value in its environment (repeatable)")
      ->expected(1)
      ->take_all()
      ->group(replica);
  app.add_option("--shape", flags.shape, "how large it is, by a shape's name")->group(replica);
  app.add_option("--memory", flags.memory, "bytes, as 2G (default: the shape's, or what the model needs)")
      ->group(replica);
  app.add_option("--cores", flags.cores, "processor time")->group(replica);
  app.add_option("--ready-path", flags.ready_path, "asked with GET until it answers")->group(replica);
  app.add_option("--replicas-min", flags.replicas_min, "kept when there is no traffic; 0: it sleeps")
      ->group(scaling);
  app.add_option("--replicas-max", flags.replicas_max, "the most that traffic may bring")->group(scaling);
  app.add_option("--replicas", flags.replicas, "always so many of this deployment; -1: by traffic")
      ->group(scaling);
  app.add_option("--idle-timeout", flags.idle_timeout, "without traffic until it sleeps, as 30m; never")
      ->group(scaling);
  app.add_option("--policy", flags.policy, "least_loaded, prefix, sticky, header or round_robin")
      ->group(scaling);
  app.add_option("--alias", flags.aliases, "a further name of the endpoint (repeatable)")
      ->expected(1)
      ->take_all()
      ->group(scaling);
  app.add_option("--deployment", flags.deployment,
                 "which deployment is meant (default: the only one, or main)")
      ->group(scaling);
  app.add_option("--weight", flags.weight, "its share of the requests, beside the other deployments'")
      ->group(scaling);
  app.add_option("--shadow-percent", flags.shadow_percent, "of the others' requests it gets copies")
      ->group(scaling);
  app.add_option("--set", flags.sets, "any field: PATH=VALUE, as scaling.stable_window_s=30 (repeatable)")
      ->expected(1)
      ->take_all()
      ->group(scaling);
}

json::object endpoint_changes(const EndpointFlags& flags, const json::value& current) {
  json::object changes;
  if (flags.policy) changes["policy"] = *flags.policy;
  if (!flags.aliases.empty()) changes["aliases"] = strings(flags.aliases);
  set_scaling(flags, changes);
  set_deployments(flags, current, changes);
  for (const std::string& text : flags.sets) set_any(text, changes);
  return changes;
}

}  // namespace neutrino::cli
