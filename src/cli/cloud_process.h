// What the processes of the cloud have in common: signals that drain them, and who they are to each other.
#pragma once

#include <signal.h>

#include <filesystem>
#include <functional>
#include <string>
#include <thread>

namespace neutrino::cli {

// Waits for SIGTERM and SIGINT beside a server; made before any other thread is. The first calls `drain`, the second `stop`.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();
  void begin(std::function<void()> drain, std::function<void()> stop);

 private:
  void wait(const std::function<void()>& drain, const std::function<void()>& stop);
  sigset_t signals_;
  std::thread thread_;
};

std::filesystem::path cloud_folder();  // $NEUTRINO_HOME/cloud

}  // namespace neutrino::cli
