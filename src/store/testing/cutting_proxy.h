// A proxy between libpq and PostgreSQL that cuts the connection at a COMMIT: before the server has heard of it, or after the server
// has done it and before the client has heard of that.
#pragma once

#include <atomic>
#include <thread>

#include "base/file.h"

namespace neutrino::store::testing {

enum class CutAt {
  nothing,
  before_commit,         // the COMMIT is not passed on
  after_commit,          // the COMMIT is done, its answer is not passed on
  after_commit_for_good  // likewise, and from then on nobody is connected any more
};

class CuttingProxy {
 public:
  explicit CuttingProxy(int server_port);
  ~CuttingProxy();
  int port() const { return port_; }
  void cut_next(CutAt cut) { cut_ = cut; }  // once
  int64_t cuts() const { return cuts_; }

 private:
  void run();
  void serve(int client);
  bool pass_on(int client, int server);

  FileDescriptor listener_;
  int port_ = 0, server_port_;
  std::atomic<CutAt> cut_{CutAt::nothing};
  std::atomic<int64_t> cuts_{0};
  std::atomic<bool> closing_{false}, refuses_{false};
  std::thread thread_;
};

}  // namespace neutrino::store::testing
