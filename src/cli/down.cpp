// neutrino down: ends what `neutrino up` started on this machine, and the replicas, which would outlive it.
#include <fcntl.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/process.h"
#include "cli/cloud_process.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cloud/providers/local.h"

namespace neutrino::cli {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// The supervisor holds a lock on its file, and its pid is in it; whoever does not hold the lock is not meant.
std::optional<ProcessIdentity> running_supervisor(const fs::path& lock_file) {
  if (!fs::exists(lock_file)) return std::nullopt;
  const FileDescriptor lock(::open(lock_file.c_str(), O_RDWR | O_CLOEXEC));
  if (!lock) throw system_error("open", lock_file);
  if (try_lock(lock, Lock::exclusive)) return std::nullopt;
  const std::string text = read_file(lock_file, 64);
  pid_t pid = 0;
  std::from_chars(text.data(), text.data() + text.size(), pid);
  return pid > 0 ? identify(pid) : std::nullopt;
}

bool wait_until(steady_clock::time_point until, const std::function<bool()>& holds) {
  while (!holds()) {
    if (steady_clock::now() >= until) return false;
    std::this_thread::sleep_for(milliseconds(50));
  }
  return true;
}

void stop_supervisor(const ProcessIdentity& supervisor, steady_clock::time_point until) {
  signal_process(supervisor, SIGTERM);
  if (wait_until(until, [&] { return !is_running(supervisor); })) return;
  throw make_error(ErrorCode::unavailable,
                   "neutrino up (pid {}) is still draining; a second `neutrino down` ends it at once",
                   supervisor.pid);
}

bool is_over(const cloud::ObservedReplica& replica) {
  return replica.phase == cloud::ReplicaPhase::exited || replica.phase == cloud::ReplicaPhase::accepted;
}

int64_t stop_replicas(const fs::path& folder, steady_clock::time_point until) {
  if (!fs::exists(folder)) return 0;
  cloud::LocalProvider provider({.folder = folder, .keeper_command = {own_program(), "keeper"}});
  int64_t stopped = 0;
  for (const cloud::ObservedReplica& replica : provider.observe()) {
    if (is_over(replica)) continue;
    provider.stop(replica.id, cloud::kAnyGeneration, milliseconds(10'000));
    ++stopped;
  }
  const bool ended = wait_until(until, [&] {
    const auto all = provider.observe();
    return std::all_of(all.begin(), all.end(), is_over);
  });
  if (!ended) throw Error(ErrorCode::unavailable, "some replicas have not ended yet; ask again");
  return stopped;
}

}  // namespace

int run_down(int argc, char** argv) {
  bool keep_replicas = false;
  int64_t timeout_s = 90;
  CLI::App app("End what `neutrino up` started on this machine, with its replicas.\nExample: neutrino down",
               "neutrino down");
  app.add_flag("--keep-replicas", keep_replicas, "replicas go on, for the next `neutrino up` to find");
  app.add_option("--timeout", timeout_s, "seconds to wait")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  const auto until = steady_clock::now() + std::chrono::seconds(timeout_s);
  const fs::path folder = cloud_folder();
  const auto supervisor = running_supervisor(folder / "supervisor.lock");
  if (supervisor) stop_supervisor(*supervisor, until);
  const int64_t replicas = keep_replicas ? 0 : stop_replicas(folder / "replicas", until);
  if (!supervisor && replicas == 0) return std::puts("neutrino is not up"), 0;
  fmt::print("neutrino is down{}\n", replicas > 0 ? fmt::format(", with {} replicas", replicas) : "");
  return 0;
}

}  // namespace neutrino::cli
