// neutrino gateway: the process in front of all endpoints (cloud/gateway.h). `neutrino up` starts it.
#include "cloud/gateway.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/log.h"
#include "cli/cloud_process.h"
#include "cli/command.h"
#include "cli/listen_options.h"
#include "cli/options.h"
#include "cloud/link.h"
#include "cloud/supervisor.h"

namespace neutrino::cli {
namespace {

struct GatewayConfig {
  ListenOptions listen;
  int port = 8000;
  std::string folder, control_plane = "127.0.0.1:8002";
  int64_t drain_seconds = 60;
};

// "127.0.0.1:8002", "[::1]:8002".
net::ClientAddress parse_address(const std::string& text) {
  const size_t colon = text.rfind(':');
  int port = 0;
  std::string host = text.substr(0, colon);
  if (colon != std::string::npos) port = std::atoi(text.c_str() + colon + 1);
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty() || port < 1 || port > 65535)
    throw make_error(ErrorCode::invalid_argument, "--control-plane must be ADDRESS:PORT, got \"{}\"", text);
  return {.host = host, .port = port};
}

// Under a supervisor the control plane's link is a listening socket that we know too.
net::ClientAddress control_plane_address(const GatewayConfig& config) {
  const auto link = cloud::inherited_listener("link");
  if (!link) return parse_address(config.control_plane);
  sockaddr_in address{};
  socklen_t size = sizeof address;
  if (::getsockname(*link, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw Error(ErrorCode::internal, "the link's socket has no address");
  ::close(*link);
  return {.host = "127.0.0.1", .port = ntohs(address.sin_port)};
}

int serve(const GatewayConfig& config) {
  StopSignals signals;
  const std::filesystem::path folder =
      config.folder.empty() ? cloud_folder() : std::filesystem::path(config.folder);
  cloud::UsageJournal journal(folder / "gateway" / "usage");
  std::function<void(const std::string&)> wake;
  cloud::Gateway gateway({.server = config.listen.server(config.port, "gateway"),
                          .usage = &journal,
                          .on_wake = [&wake](const std::string& endpoint) {
                            if (wake) wake(endpoint);
                          }});
  cloud::GatewayLink link(gateway, journal,
                          {.control_plane = control_plane_address(config),
                           .token = cloud::file_token(folder / "link-token"),
                           .folder = folder / "gateway"});
  wake = [&link](const std::string& endpoint) { link.wake(endpoint); };
  gateway.listen();
  std::printf("neutrino gateway ready: %s\n", config.listen.url(gateway.port()).c_str());
  std::fflush(stdout);
  signals.begin(
      [&] {
        if (cloud::supervisor_is_gone()) gateway.server().stop_listening();
        spdlog::info("gateway draining");
        gateway.drain(std::chrono::seconds(config.drain_seconds));
      },
      [&] { gateway.drain(std::chrono::seconds(0)); });
  gateway.run();
  spdlog::info("gateway stopped");
  return 0;
}

}  // namespace

int run_gateway(int argc, char** argv) {
  GatewayConfig config;
  CLI::App app(
      "The gateway in front of all endpoints; `neutrino up` starts it.\nExample: neutrino gateway --port "
      "8000",
      "neutrino gateway");
  config.listen.add_to(app);
  app.add_option("--port", config.port, "port to listen on; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--control-plane", config.control_plane, "address of the control plane's link")
      ->capture_default_str();
  app.add_option("--folder", config.folder, "for what it keeps (default: cloud/ in the home)");
  app.add_option("--drain-timeout", config.drain_seconds, "seconds that open requests get after SIGTERM")
      ->capture_default_str();
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  config.listen.begin();
  return serve(config);
}

}  // namespace neutrino::cli
