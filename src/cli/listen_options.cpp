#include "cli/listen_options.h"

#include <fmt/format.h>

#include "base/log.h"
#include "cloud/supervisor.h"
#include "net/auth.h"

namespace neutrino::cli {

void ListenOptions::add_to(CLI::App& app) {
  app.add_option("--host", host, "address to listen on")->capture_default_str();
  app.add_option("--allowed-host", allowed_hosts, "host name under which clients may come (repeatable)");
  app.add_option("--allowed-origin", allowed_origins, "web origin that may call (repeatable)");
  app.add_option("--tls-cert", tls_cert, "certificate and its chain in PEM: speak TLS")
      ->envname("NEUTRINO_TLS_CERT");
  app.add_option("--tls-key", tls_key, "its private key in PEM")->envname("NEUTRINO_TLS_KEY");
  app.add_flag("--insecure-no-tls", insecure_no_tls, "listen beyond loopback without TLS");
  app.add_option("--log-level", log_level, "trace, debug, info, warn, error or off")->capture_default_str();
}

void ListenOptions::begin() const {
  init_log(log_level);
  net::check_bind(host, {.has_key = true, .has_tls = !tls_cert.empty(), .insecure_no_tls = insecure_no_tls});
}

net::ServerOptions ListenOptions::server(int port, const char* inherited) const {
  net::ServerOptions options;
  options.host = host;
  options.port = port;
  options.socket = cloud::inherited_listener(inherited).value_or(-1);
  options.allowed_hosts = allowed_hosts;
  options.allowed_origins = allowed_origins;
  options.tls = {.certificate = tls_cert, .key = tls_key};
  return options;
}

std::vector<std::string> ListenOptions::arguments() const {
  std::vector<std::string> arguments{"--host", host, "--log-level", log_level};
  if (!tls_cert.empty()) arguments.insert(arguments.end(), {"--tls-cert", tls_cert});
  if (!tls_key.empty()) arguments.insert(arguments.end(), {"--tls-key", tls_key});
  for (const std::string& name : allowed_hosts) arguments.insert(arguments.end(), {"--allowed-host", name});
  for (const std::string& name : allowed_origins)
    arguments.insert(arguments.end(), {"--allowed-origin", name});
  if (insecure_no_tls) arguments.push_back("--insecure-no-tls");
  return arguments;
}

std::string ListenOptions::url(int port) const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}://{}:{}", tls_cert.empty() ? "http" : "https", is_v6 ? "[" + host + "]" : host,
                     port);
}

}  // namespace neutrino::cli
