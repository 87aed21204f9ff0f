// neutrino control-plane: the process that keeps the cloud as its rows say (cloud/control_plane.h). `neutrino up` starts it.
#include "cloud/control_plane.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/file.h"
#include "base/log.h"
#include "base/process.h"
#include "cli/cloud_process.h"
#include "cli/command.h"
#include "cli/listen_options.h"
#include "cli/options.h"
#include "cloud/providers/local.h"
#include "cloud/supervisor.h"

namespace neutrino::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kDrainSeconds = 5;  // its requests are short, but for watches, which go on elsewhere

struct PlaneConfig {
  ListenOptions listen;
  std::string folder, database, oidc, kernel_table;
  int port = 8001, link_port = 8002;
  double memory_bandwidth = 0;
  bool new_admin_key = false;
};

cloud::ControlPlaneOptions plane_options(const PlaneConfig& config, const fs::path& folder) {
  cloud::ControlPlaneOptions options{.folder = folder, .database = config.database, .oidc = config.oidc};
  options.api = config.listen.server(config.port, "api");
  options.link.port = config.link_port;
  options.link.socket = cloud::inherited_listener("link").value_or(-1);
  options.program.command = {std::string(cloud::kOwnProgram), "serve"};
  options.new_admin_key = config.new_admin_key;
  options.on_admin_key = [](const fs::path& file) {
    std::printf("neutrino sign in once as administrator with the key in %s\n", file.c_str());
  };
  options.provider_options.keeper_command = {own_program(), "keeper"};
  options.provider_options.environment = cloud::harmless_environment();
  options.provider_options.kernel_table = config.kernel_table;
  options.provider_options.memory_bytes_per_second = config.memory_bandwidth;
  return options;
}

int serve(const PlaneConfig& config) {
  StopSignals signals;
  const fs::path folder = config.folder.empty() ? cloud_folder() : fs::path(config.folder);
  cloud::ControlPlane plane(plane_options(config, folder));
  plane.listen();
  std::printf("neutrino control plane ready: %s\n", config.listen.url(plane.api_port()).c_str());
  std::fflush(stdout);
  signals.begin(
      [&] {
        if (cloud::supervisor_is_gone()) plane.stop_listening();
        spdlog::info("control plane draining");
        plane.drain(std::chrono::seconds(kDrainSeconds));
      },
      [&] { plane.drain(std::chrono::seconds(0)); });
  plane.run();
  spdlog::info("control plane stopped");
  return 0;
}

}  // namespace

int run_control_plane(int argc, char** argv) {
  PlaneConfig config;
  CLI::App app(
      "The control plane of the cloud; `neutrino up` starts it.\nExample: neutrino control-plane --port 8001",
      "neutrino control-plane");
  config.listen.add_to(app);
  app.add_option("--port", config.port, "port of the API; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--link-port", config.link_port, "port on loopback for gateways")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--folder", config.folder, "for what it keeps (default: cloud/ in the home)");
  app.add_option("--database", config.database, "file, or postgres://... (default: cloud.db in the folder)")
      ->envname("NEUTRINO_DATABASE");
  app.add_option("--oidc", config.oidc, "JSON file that describes the OpenID provider for sign-in");
  app.add_option("--kernel-table", config.kernel_table, "of this machine, as a fact to show");
  app.add_option("--memory-bandwidth", config.memory_bandwidth, "likewise, bytes a second");
  app.add_flag("--new-admin-key", config.new_admin_key, "make a new one-time key for the administrator");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  config.listen.begin();
  return serve(config);
}

}  // namespace neutrino::cli
