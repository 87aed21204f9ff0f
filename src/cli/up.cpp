// neutrino up: the cloud on this machine. A small supervisor (cloud/supervisor.h) that keeps the gateway and the control plane running.
//
// SIGTERM or Ctrl-C drains both; replicas stay and are found again by the next `neutrino up`.
#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/cloud_process.h"
#include "cli/command.h"
#include "cli/machine_facts.h"
#include "cli/options.h"
#include "cloud/supervisor.h"
#include "net/auth.h"

namespace neutrino::cli {
namespace {

struct UpConfig {
  std::string host = "127.0.0.1", database, oidc, tls_cert, tls_key, log_level = "info";
  int port = 8000, api_port = 8001;
  std::vector<std::string> allowed_hosts, allowed_origins;
  bool insecure_no_tls = false, new_admin_key = false;
  int64_t drain_seconds = 60;
};

void add(std::vector<std::string>& argv, const char* flag, const std::string& value) {
  if (!value.empty()) argv.insert(argv.end(), {flag, value});
}

void add_common(std::vector<std::string>& argv, const UpConfig& config) {
  add(argv, "--host", config.host);
  add(argv, "--tls-cert", config.tls_cert);
  add(argv, "--tls-key", config.tls_key);
  add(argv, "--log-level", config.log_level);
  for (const std::string& host : config.allowed_hosts) add(argv, "--allowed-host", host);
  for (const std::string& origin : config.allowed_origins) add(argv, "--allowed-origin", origin);
  if (config.insecure_no_tls) argv.push_back("--insecure-no-tls");
}

cloud::SupervisedChild gateway_child(const UpConfig& config) {
  cloud::SupervisedChild child{.name = "gateway",
                               .argv = {own_program(), "gateway"},
                               .listeners = {"gateway", "link"},
                               .drain_ms = (config.drain_seconds + 5) * 1000};
  add_common(child.argv, config);
  add(child.argv, "--drain-timeout", std::to_string(config.drain_seconds));
  return child;
}

cloud::SupervisedChild plane_child(const UpConfig& config, const MachineFacts& facts) {
  cloud::SupervisedChild child{.name = "control-plane",
                               .argv = {own_program(), "control-plane"},
                               .listeners = {"api", "link"},
                               .drain_ms = 20'000};
  add_common(child.argv, config);
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
  options.listeners = {{.name = "gateway", .host = config.host, .port = config.port},
                       {.name = "api", .host = config.host, .port = config.api_port},
                       {.name = "link"}};
  options.lock_file = folder / "supervisor.lock";
  options.on_listening = [config, folder](const std::vector<int>& ports) {
    const std::string scheme = config.tls_cert.empty() ? "http" : "https";
    const std::string inference = fmt::format("{}://{}:{}", scheme, config.host, ports[0]);
    const std::string api = fmt::format("{}://{}:{}", scheme, config.host, ports[1]);
    write_file_atomic(folder / "addresses.json",
                      fmt::format("{{\"inference\":\"{}\",\"api\":\"{}\"}}\n", inference, api));
    std::printf("neutrino up: inference %s/v1, API %s/api/v1\n", inference.c_str(), api.c_str());
    std::fflush(stdout);
  };
  options.on_start = [](const std::string& child, pid_t pid) {
    spdlog::info("started child={} pid={}", child, pid);
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
  app.add_option("--host", config.host, "address to listen on")->capture_default_str();
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
  app.add_option("--allowed-host", config.allowed_hosts,
                 "host name under which clients may come (repeatable)");
  app.add_option("--allowed-origin", config.allowed_origins, "web origin that may call (repeatable)");
  app.add_option("--tls-cert", config.tls_cert, "certificate and its chain in PEM: speak TLS")
      ->envname("NEUTRINO_TLS_CERT");
  app.add_option("--tls-key", config.tls_key, "its private key in PEM")->envname("NEUTRINO_TLS_KEY");
  app.add_flag("--new-admin-key", config.new_admin_key,
               "make a new one-time key for the administrator, in $NEUTRINO_HOME/cloud/one-time-key");
  app.add_flag("--insecure-no-tls", config.insecure_no_tls, "listen beyond loopback without TLS");
  app.add_option("--drain-timeout", config.drain_seconds, "seconds that open requests get after SIGTERM")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  app.add_option("--log-level", config.log_level, "trace, debug, info, warn, error or off")
      ->capture_default_str();
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  init_log(config.log_level);
  net::check_bind(
      config.host,
      {.has_key = true, .has_tls = !config.tls_cert.empty(), .insecure_no_tls = config.insecure_no_tls});
  return cloud::run_supervisor(supervisor_options(config));
}

}  // namespace neutrino::cli
