#include "cli/cloud_process.h"

#include <pthread.h>

#include <utility>

#include "base/file.h"

namespace neutrino::cli {

StopSignals::StopSignals() {
  sigemptyset(&signals_);
  sigaddset(&signals_, SIGTERM);
  sigaddset(&signals_, SIGINT);
  sigaddset(&signals_, SIGUSR1);  // our own, for the end
  pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
}

StopSignals::~StopSignals() {
  if (!thread_.joinable()) return;
  pthread_kill(thread_.native_handle(), SIGUSR1);
  thread_.join();
}

void StopSignals::begin(std::function<void()> drain, std::function<void()> stop) {
  thread_ = std::thread([this, drain = std::move(drain), stop = std::move(stop)] { wait(drain, stop); });
}

void StopSignals::wait(const std::function<void()>& drain, const std::function<void()>& stop) {
  for (const auto* action : {&drain, &stop}) {
    int signal = 0;
    sigwait(&signals_, &signal);
    if (signal == SIGUSR1) return;
    (*action)();
  }
}

std::filesystem::path cloud_folder() { return neutrino_home() / "cloud"; }

}  // namespace neutrino::cli
