// A PostgreSQL 15 of a test's own: a new cluster in a temporary folder, on a free port of the loopback, whose processes may be
// killed. As root it runs as the user `postgres`, since PostgreSQL refuses to run as root.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/process.h"
#include "base/random.h"

namespace neutrino::store::testing {

class PostgresServer {
 public:
  // Makes the cluster and starts it. The thread that does outlives the server. Throws Error that says what is missing.
  PostgresServer();
  ~PostgresServer();
  PostgresServer(const PostgresServer&) = delete;

  // The process's own server, made at the first call; for tests that do not kill it.
  static PostgresServer& shared();

  // The URL of a schema, which is made if it is not there; each has its own tables.
  std::string url(std::string_view schema);
  int port() const { return port_; }

  void kill_all();  // kill -9 of the postmaster and all of its processes
  void kill_one(
      Random& random);    // kill -9 of a process that serves somebody, as the kernel does when memory is out
  void start();           // after kill_all(): recovers, and returns when it takes connections
  void stop_answering();  // SIGSTOP to all
  void answer_again();

 private:
  std::vector<ProcessIdentity> children() const;
  void signal_all(int signal);

  std::filesystem::path folder_;
  int port_ = 0;
  ProcessIdentity postmaster_;
};

}  // namespace neutrino::store::testing
