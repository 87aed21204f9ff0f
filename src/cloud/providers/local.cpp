#include "cloud/providers/local.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "cloud/providers/cgroup.h"
#include "cloud/providers/keeper.h"
#include "cloud/providers/log_spool.h"

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSweepMilliseconds = 5000;

SpecRecord record_of(const ReplicaSpec& spec, const ProviderOptions& options) {
  return {.id = spec.id,
          .generation = spec.generation,
          .command = spec.command,
          .working_directory = spec.working_directory,
          .memory_bytes = spec.memory_bytes,
          .cores = spec.cores,
          .stop_grace_ms = spec.stop_grace_ms,
          .log_file_bytes = options.log_file_bytes,
          .log_files = options.log_files,
          .node = options.node_name,
          .accepted_at_ms = SystemClock().unix_ms()};
}

void check_spec(const ReplicaSpec& spec) {
  check_replica_id(spec.id);
  const auto bad = [&](std::string_view what, std::string_view expected) {
    return make_error(ErrorCode::invalid_argument, "the {} of replica {} must be {}", what, spec.id,
                      expected);
  };
  if (spec.generation < 1) throw bad("generation", "at least 1");
  if (spec.command.empty() || spec.command[0].empty()) throw bad("command", "a program and its arguments");
  if (spec.memory_bytes < 0) throw bad("memory limit", "0 (none) or more");
  if (!(spec.cores >= 0 && spec.cores <= 1e6)) throw bad("limit of cores", "0 (none) to 1,000,000");
  if (spec.stop_grace_ms < 0 || spec.stop_grace_ms > limits::kReplicaStopSeconds * 1000)
    throw bad("stop grace", fmt::format("0-{} s", limits::kReplicaStopSeconds));
  for (const std::string& word : spec.command)
    if (word.find('\0') != word.npos) throw bad("command", "without NUL");
  for (const std::string& entry : spec.environment)
    if (entry.find('=') == entry.npos || entry.find('=') == 0 || entry.find('\0') != entry.npos)
      throw bad("environment", "a list of NAME=value");
}

bool over(const std::optional<StatusRecord>& status) {
  return status && status->phase == phase_name(ReplicaPhase::exited);
}

std::string_view name_of(std::string_view entry) { return entry.substr(0, entry.find('=')); }

// `own` counts where both have a name.
std::vector<std::string> merged(std::vector<std::string> common, const std::vector<std::string>& own) {
  std::erase_if(common, [&](const std::string& entry) {
    return std::any_of(own.begin(), own.end(),
                       [&](const auto& other) { return name_of(other) == name_of(entry); });
  });
  common.insert(common.end(), own.begin(), own.end());
  return common;
}

std::string stopped_text() { return "stopped before it began"; }

}  // namespace

std::vector<std::string> harmless_environment() {
  std::vector<std::string> environment;
  for (const char* name :
       {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "NEUTRINO_HOME", "XDG_DATA_HOME",
        "SSL_CERT_FILE", "SSL_CERT_DIR", "ASAN_OPTIONS", "UBSAN_OPTIONS", "LD_LIBRARY_PATH"})
    if (const char* value = std::getenv(name)) environment.push_back(fmt::format("{}={}", name, value));
  return environment;
}

std::unique_ptr<Provider> make_local_provider(ProviderOptions options) {
  return std::make_unique<LocalProvider>(std::move(options));
}

LocalProvider::LocalProvider(ProviderOptions options) : options_(std::move(options)) {
  check(!options_.keeper_command.empty(), "the local provider needs to know how to run a keeper");
  options_.folder = fs::absolute(options_.folder).lexically_normal();
  std::error_code error;
  fs::create_directories(options_.folder, error);
  fs::permissions(options_.folder, fs::perms::owner_all, error);
  if (::access(options_.folder.c_str(), W_OK) != 0) throw system_error("use", options_.folder);
}

ReplicaFolder LocalProvider::folder_of(const std::string& id) const {
  check_replica_id(id);
  return ReplicaFolder(options_.folder / id);
}

// spec.json first: a kill anywhere behind it leaves a replica that observe() shows as accepted, and the caller's next start()
// goes on. A kill between the keeper's start and its lock may make two keepers: the lock lets one work.
void LocalProvider::start(const ReplicaSpec& spec) {
  check_spec(spec);
  reap_keepers();
  const ReplicaFolder folder = folder_of(spec.id);
  if (::mkdir(folder.path().c_str(), 0700) != 0 && errno != EEXIST) throw system_error("make", folder.path());
  const auto known = folder.spec();
  if (known && known->generation > spec.generation) return;  // this call is late
  const auto keeper = folder.keeper();
  if (keeper && known && known->generation == spec.generation) return;
  if (keeper)
    throw make_error(ErrorCode::failed_precondition,
                     "replica {} still runs as generation {}: it must be stopped before generation {} starts",
                     spec.id, known ? known->generation : 0, spec.generation);
  if (const auto status = folder.status(); status && status->generation >= spec.generation) return;
  if (const auto stop = folder.stop(); stop && stop->generation >= spec.generation) return;
  if (!known || known->generation < spec.generation) {
    end_lost(folder);  // of the generation before
    const FileDescriptor lock =
        folder.lock_as_provider();  // against a keeper that has just been started for it
    if (!lock)
      throw make_error(ErrorCode::unavailable, "replica {} is being changed by somebody else", spec.id);
    folder.write(record_of(spec, options_));
  }
  start_keeper(folder, spec);
}

void LocalProvider::start_keeper(const ReplicaFolder& folder, const ReplicaSpec& spec) {
  const FileDescriptor log(
      ::open(folder.keeper_log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  const FileDescriptor environment = environment_file(merged(options_.environment, spec.environment));
  SpawnOptions options{.argv = options_.keeper_command,
                       .environment = options_.environment,
                       .working_directory = "/",
                       .output = log.get(),
                       .error = log.get(),
                       .inherited = {environment.get()},
                       .group = ProcessGroup::session};
  options.argv.push_back(folder.path().string());
  options.argv.push_back(std::to_string(spec.generation));
  keepers_.insert(spawn(options).pid);
}

void LocalProvider::stop(const std::string& id, int64_t generation, milliseconds grace) {
  const ReplicaFolder folder = folder_of(id);
  const auto spec = folder.spec();
  if (!spec || spec->generation > generation) return;
  const auto status = folder.status();
  if (status && status->generation >= spec->generation && over(status)) return;
  const int64_t grace_ms = std::clamp<int64_t>(grace.count(), 0, limits::kReplicaStopSeconds * 1000);
  const auto stop = folder.stop();
  if (!stop || stop->generation < spec->generation || stop->grace_ms > grace_ms)
    folder.write(StopRecord{
        .generation = spec->generation, .grace_ms = grace_ms, .requested_at_ms = SystemClock().unix_ms()});
  if (const auto keeper = folder.keeper()) signal_process(*keeper, SIGTERM);
}

void LocalProvider::remove(const std::string& id) {
  const ReplicaFolder folder = folder_of(id);
  reap_keepers();
  if (!fs::exists(folder.path())) return;
  end_lost(folder);
  const FileDescriptor lock = folder.lock_as_provider();  // against a keeper that has just been started
  if (!lock)
    throw make_error(ErrorCode::failed_precondition,
                     "replica {} must be over before it is removed, and it runs", id);
  std::error_code error;
  fs::remove(folder.path() / "spec.json", error);  // first: without it no keeper begins
  fs::remove_all(folder.path(), error);
  if (error)
    throw make_error(ErrorCode::unavailable, "cannot remove {}: {}", folder.path().string(), error.message());
}

std::vector<ObservedReplica> LocalProvider::observe() {
  reap_keepers();
  std::vector<std::string> ids;
  std::error_code error;
  for (fs::directory_iterator entry(options_.folder, error), end; !error && entry != end;
       entry.increment(error))
    ids.push_back(entry->path().filename().string());
  if (error)
    throw make_error(ErrorCode::unavailable, "cannot list {}: {}", options_.folder.string(), error.message());
  std::sort(ids.begin(), ids.end());
  std::vector<ObservedReplica> replicas;
  for (const std::string& id : ids)
    if (auto replica = observe_one(id)) replicas.push_back(std::move(*replica));
  return replicas;
}

// The lock is looked at before the status: a keeper notes the end first and lets go of the lock then, so a status that says
// "runs" without a lock is one whose keeper was killed. end_lost() makes sure of that with the lock in its hand.
std::optional<ObservedReplica> LocalProvider::observe_one(const std::string& id) {
  const ReplicaFolder folder(options_.folder / id);
  const bool kept = folder.keeper().has_value();
  if (!kept) end_lost(folder);
  const auto spec = folder.spec();
  if (!spec) return std::nullopt;  // being made or removed
  const auto status = folder.status();
  const auto stop = folder.stop();
  const bool told = stop && stop->generation >= spec->generation;
  ObservedReplica replica{.id = id, .generation = spec->generation, .node = spec->node};
  if (!status || status->generation < spec->generation) {
    replica.phase = told ? ReplicaPhase::exited : kept ? ReplicaPhase::starting : ReplicaPhase::accepted;
    replica.reason = told ? Reason::stopped : Reason::in_progress;
    replica.message = told ? stopped_text() : "waits for its keeper";
    return replica;
  }
  replica.reason = find_reason(status->reason).value_or(Reason::unknown);
  replica.message = status->message;
  replica.host = status->host;
  replica.port = static_cast<int>(status->port);
  replica.started_at_ms = status->started_at_ms;
  replica.finished_at_ms = status->finished_at_ms;
  replica.exit_code = status->exit_code;
  replica.exit_signal = status->exit_signal;
  replica.limits_note = status->limits_note;
  const bool runs = status->phase == phase_name(ReplicaPhase::running);
  replica.phase = runs ? ReplicaPhase::running : ReplicaPhase::starting;
  if (told || over(status)) replica.phase = ReplicaPhase::stopping;
  if (over(status) && !kept) replica.phase = ReplicaPhase::exited;  // not before its keeper is gone, too
  return replica;
}

// Notes the end of a replica whose keeper was killed, when nothing of it is left.
void LocalProvider::end_lost(const ReplicaFolder& folder) {
  auto status = folder.status();
  if (!status || over(status)) return;
  const FileDescriptor lock = folder.lock_as_provider();
  if (!lock) return;  // it has a keeper after all
  status = folder.status();
  if (!status || over(status)) return;
  const auto until = std::chrono::steady_clock::now() + milliseconds(kSweepMilliseconds);
  for (;;) {
    const auto left = find_by_environment(folder.mark());
    if (left.empty()) break;
    if (std::chrono::steady_clock::now() >= until) return;  // tried again at the next observe()
    for (const ProcessIdentity& process : left) signal_process(process, SIGKILL);
    std::this_thread::sleep_for(milliseconds(2));
  }
  std::vector<fs::path> groups(status->control_groups.begin(), status->control_groups.end());
  if (!Cgroup::found(std::move(groups)).kill_and_remove(kSweepMilliseconds)) return;
  status->phase = phase_name(ReplicaPhase::exited);
  const auto stop = folder.stop();
  const bool told = stop && stop->generation >= status->generation;
  status->reason = reason_name(told ? Reason::stopped : Reason::system_error);
  status->message = "its keeper was killed or the machine went down, and it was ended too";
  status->finished_at_ms = SystemClock().unix_ms();
  spdlog::warn("a replica's keeper was lost replica={}", folder.path().filename().string());
  folder.write(*status);
}

void LocalProvider::reap_keepers() {
  std::erase_if(keepers_, [](pid_t pid) { return try_wait(pid).has_value(); });
}

std::vector<NodeFacts> LocalProvider::nodes() {
  cpu_set_t cores;
  struct sysinfo machine {};
  ::sysinfo(&machine);
  const int64_t memory = static_cast<int64_t>(machine.totalram) * machine.mem_unit;
  return {{.name = options_.node_name,
           .provider = "local",
           .cores =
               ::sched_getaffinity(0, sizeof cores, &cores) == 0 ? static_cast<double>(CPU_COUNT(&cores)) : 1,
           .memory_bytes = memory,
           .memory_available_bytes = std::min(memory, available_memory().bytes),
           .kernel_table = options_.kernel_table,
           .memory_bytes_per_second = options_.memory_bytes_per_second}};
}

LogChunk LocalProvider::read_log(const std::string& id, int64_t cursor, int64_t bytes_max) {
  const ReplicaFolder folder = folder_of(id);
  if (!fs::exists(folder.path())) throw make_error(ErrorCode::not_found, "there is no replica {}", id);
  return read_log_spool(folder.log(), cursor, std::clamp<int64_t>(bytes_max, 1, limits::kLogReadBytes));
}

}  // namespace neutrino::cloud
