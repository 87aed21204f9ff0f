// neutrino up: the cloud on this machine. A small supervisor (cloud/supervisor.h) that keeps the gateway and the control plane running.
//
// SIGTERM or Ctrl-C drains both; replicas stay and are found again by the next `neutrino up`.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/cloud_process.h"
#include "cli/command.h"
#include "cli/listen_options.h"
#include "cli/machine_facts.h"
#include "cli/options.h"
#include "cloud/supervisor.h"

namespace neutrino::cli {
namespace {

struct UpConfig {
  ListenOptions listen;
  std::string database, oidc;
  int port = 8000, api_port = 8001;
  bool new_admin_key = false;
  int64_t drain_seconds = 60;
};

void add(std::vector<std::string>& argv, const char* flag, const std::string& value) {
  if (!value.empty()) argv.insert(argv.end(), {flag, value});
}

// A child of this binary, which listens as we do.
cloud::SupervisedChild child_of(const UpConfig& config, const char* name) {
  cloud::SupervisedChild child{.name = name, .argv = {own_program(), name}};
  for (std::string& argument : config.listen.arguments()) child.argv.push_back(std::move(argument));
  return child;
}

cloud::SupervisedChild gateway_child(const UpConfig& config) {
  cloud::SupervisedChild child = child_of(config, "gateway");
  child.listeners = {"gateway", "link"};
  child.drain_ms = (config.drain_seconds + 5) * 1000;
  add(child.argv, "--drain-timeout", std::to_string(config.drain_seconds));
  return child;
}

cloud::SupervisedChild plane_child(const UpConfig& config, const MachineFacts& facts) {
  cloud::SupervisedChild child = child_of(config, "control-plane");
  child.listeners = {"api", "link"};
  child.drain_ms = 20'000;
  add(child.argv, "--database", config.database);
  add(child.argv, "--oidc", config.oidc);
  if (config.new_admin_key) child.argv.push_back("--new-admin-key");
  add(child.argv, "--kernel-table", facts.kernel_table);
  add(child.argv, "--memory-bandwidth", fmt::format("{:.0f}", facts.memory_bytes_per_second));
  return child;
}

cloud::SupervisorOptions supervisor_options(const UpConfig& config) {
  const std::filesystem::path folder = cloud_folder();
  std::filesystem::create_directories(folder);
  const MachineFacts facts = machine_facts(folder / "machine.json");
  cloud::SupervisorOptions options;
  options.children = {gateway_child(config), plane_child(config, facts)};
  options.listeners = {{.name = "gateway", .host = config.listen.host, .port = config.port},
                       {.name = "api", .host = config.listen.host, .port = config.api_port},
                       {.name = "link"}};
  options.lock_file = folder / "supervisor.lock";
  options.on_listening = [config, folder](const std::vector<int>& ports) {
    const std::string inference = config.listen.url(ports[0]), api = config.listen.url(ports[1]);
    write_file_atomic(folder / "addresses.json",
                      fmt::format("{{\"inference\":\"{}\",\"api\":\"{}\"}}\n", inference, api));
    std::printf("neutrino up: inference %s/v1, API %s/api/v1\n", inference.c_str(), api.c_str());
    std::fflush(stdout);
  };
  return options;
}

}  // namespace

int run_up(int argc, char** argv) {
  UpConfig config;
  CLI::App app(
      "The cloud on this machine: a gateway for all endpoints, and the control plane with its API.\n"
      "Example: neutrino up --port 8000",
      "neutrino up");
  config.listen.add_to(app);
  app.add_option("--port", config.port, "port of the gateway; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--api-port", config.api_port, "port of the API; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--database", config.database,
                 "SQLite file, or postgres://... (default: $NEUTRINO_HOME/cloud/cloud.db)")
      ->envname("NEUTRINO_DATABASE");
  app.add_option("--oidc", config.oidc, "JSON file that describes the OpenID provider for sign-in");
  app.add_flag("--new-admin-key", config.new_admin_key,
               "make a new one-time key for the administrator, in $NEUTRINO_HOME/cloud/one-time-key");
  app.add_option("--drain-timeout", config.drain_seconds, "seconds that open requests get after SIGTERM")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  config.listen.begin();
  return cloud::run_supervisor(supervisor_options(config));
}

}  // namespace neutrino::cli
