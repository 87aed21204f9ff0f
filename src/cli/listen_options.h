// Where and how a process of the cloud listens: `neutrino up` reads these options and hands them on to its children.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "net/server.h"

namespace neutrino::cli {

struct ListenOptions {
  std::string host = "127.0.0.1", tls_cert, tls_key, log_level = "info";
  std::vector<std::string> allowed_hosts, allowed_origins;
  bool insecure_no_tls = false;

  void add_to(CLI::App& app);
  // Opens the log, and refuses an address beyond loopback without TLS (net/auth.h).
  void begin() const;
  // On the listening socket that a supervisor passes on under a name, else on a port.
  net::ServerOptions server(int port, const char* inherited) const;
  std::vector<std::string> arguments() const;  // that make the same of a child
  std::string url(int port) const;             // "http://127.0.0.1:8000"
};

}  // namespace neutrino::cli
