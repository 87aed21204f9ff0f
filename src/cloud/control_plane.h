// The control plane as one object: the database, what keeps the cloud in shape, the API and the link to the gateways.
//
// Threads: the controller's, the API's io thread and its workers, the link's io thread (which probes replicas too), and the
// accountant's (what takes its time: replicas' logs, machine hours, what is too old). It may be killed at any moment and started again:
// replicas and gateways go on without it, and it finds them again.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cloud/desired.h"
#include "cloud/provider.h"
#include "net/server.h"

namespace neutrino::cloud {

struct ControlPlaneOptions {
  std::filesystem::path folder;  // keys and replicas; one control plane each
  std::string database;          // empty: cloud.db in the folder
  net::ServerOptions api, link;  // where they listen; keys are the database's
  std::string provider = "local";
  ProviderOptions provider_options;  // without the folder
  ServeProgram program;
  std::filesystem::path oidc;  // file of oidc.h's options; empty: no such sign-in
  int64_t gateway_alive_ms = 60'000;
  bool new_admin_key = false;  // one more one-time key; the first start makes one anyway
  std::function<void(const std::filesystem::path& file)> on_admin_key;  // where such a key was put
};

class ControlPlane {
 public:
  // Opens and migrates the database. Throws Error{failed_precondition} if another control plane has the folder.
  explicit ControlPlane(ControlPlaneOptions options);
  ~ControlPlane();

  void listen();  // throws Error{unavailable} that names a busy port
  int api_port() const;
  int link_port() const;
  void run();                                   // until drain() is through
  void drain(std::chrono::milliseconds grace);  // any thread
  void stop_listening();                        // any thread; see net::HttpServer

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neutrino::cloud
