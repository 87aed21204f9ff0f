// The supervisor: keeps two children running, the gateway and the control plane, and holds what must not go with them.
//
// It is small enough not to fail: one thread, no state on disk, nothing but processes and sockets. It opens the listening sockets
// and passes them on, so while a child is started again its clients wait in the kernel's queue instead of being refused. It knows
// nothing of replicas: those have keepers, outlive it, and are found again by the next control plane.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/process.h"
#include "cloud/probes.h"

namespace neutrino::cloud {

struct ListenAddress {
  std::string name;                // by which a child asks for it: inherited_listener()
  std::string host = "127.0.0.1";  // an IP address
  int port = 0;                    // 0: any free one
};

struct SupervisedChild {
  std::string name;
  std::vector<std::string> argv;
  std::vector<std::string> listeners;  // names of those that it gets
  int64_t drain_ms = 60'000;           // from SIGTERM to SIGKILL
};

struct SupervisorOptions {
  std::vector<SupervisedChild> children;  // started together, drained one after the other in this order
  std::vector<ListenAddress> listeners;
  std::filesystem::path lock_file;    // one supervisor each; holds its pid
  int64_t bind_patience_ms = 60'000;  // for children of a killed supervisor to let go of the ports
  // At once; one that keeps ending within a second waits a little, but is back within one too: nothing works without it.
  RestartPolicy restarts{.free_restarts = 3, .delay_ms = 250, .delay_max_ms = 500, .healthy_ms = 1000};
  std::function<void(const std::vector<int>& ports)> on_listening;  // of the listeners, in their order
  std::function<void(const std::string& child, pid_t pid)> on_start;
};

// Runs until SIGTERM or SIGINT: drains the children in order, each with SIGTERM and, when its time is over, SIGKILL; a second signal
// makes it SIGKILL at once. Replicas stay. To be called by a process with one thread. Returns the exit code for main: 0, or a
// child's if it ended with 2 (bad usage) at its first start. Throws Error{failed_precondition} if another supervisor has the lock,
// Error{unavailable} for a port that stays busy.
int run_supervisor(const SupervisorOptions& options);

// In a child: the listening socket with this name, as net::ServerOptions::socket takes it. Nothing: it was not started so.
std::optional<int> inherited_listener(std::string_view name);

// In a child: who started it is gone, so that a SIGTERM comes from the kernel for that reason. The next supervisor needs the port:
// let go of the listening socket before draining.
bool supervisor_is_gone();

}  // namespace neutrino::cloud
