// What the local provider and a replica's keeper tell each other: a folder of small files and one lock.
//
//   spec.json     what was asked for; written by the provider before a keeper is started
//   status.json   what became of it; written by the keeper, before and after each step that cannot be undone
//   stop.json     that it should end; written by the provider before it signals the keeper
//   lock          held (fcntl) by the keeper for as long as it lives: the kernel takes it back however the keeper dies, and says
//                 whose it is, so that no pid from a file is ever believed
//   log/, keeper.log
//
// Each file is replaced as a whole. Two rules make every crash harmless: a keeper that does not get the lock ends, and a generation
// that has a status is never begun again.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "base/fields.h"
#include "base/file.h"
#include "base/process.h"

namespace neutrino::cloud {

// As ReplicaSpec, but for the environment: it may hold secrets and reaches the keeper as its own.
struct SpecRecord {
  std::string id;
  int64_t generation = 0;
  std::vector<std::string> command;
  std::string working_directory;
  int64_t memory_bytes = 0;
  double cores = 0;
  int64_t stop_grace_ms = 0;
  int64_t log_file_bytes = 0, log_files = 0;
  std::string node;
  int64_t accepted_at_ms = 0;

  static constexpr auto fields() {
    using R = SpecRecord;
    return std::tuple(field("id", &R::id), field("generation", &R::generation), field("command", &R::command),
                      field("working_directory", &R::working_directory),
                      field("memory_bytes", &R::memory_bytes), field("cores", &R::cores),
                      field("stop_grace_ms", &R::stop_grace_ms), field("log_file_bytes", &R::log_file_bytes),
                      field("log_files", &R::log_files), field("node", &R::node),
                      field("accepted_at_ms", &R::accepted_at_ms));
  }
};

struct StatusRecord {
  int64_t generation = 0;
  std::string phase;   // phase_name() of starting, running or exited
  std::string reason;  // reason_name()
  std::string message;
  int64_t pid = 0, start_ticks = 0;  // of the replica's first process
  std::string host;
  int64_t port = 0;
  int64_t started_at_ms = 0, finished_at_ms = 0;
  std::optional<int64_t> exit_code, exit_signal;
  std::string limits_note;
  std::vector<std::string> control_groups;  // folders

  static constexpr auto fields() {
    using R = StatusRecord;
    return std::tuple(field("generation", &R::generation), field("phase", &R::phase),
                      field("reason", &R::reason), field("message", &R::message), field("pid", &R::pid),
                      field("start_ticks", &R::start_ticks), field("host", &R::host), field("port", &R::port),
                      field("started_at_ms", &R::started_at_ms), field("finished_at_ms", &R::finished_at_ms),
                      field("exit_code", &R::exit_code), field("exit_signal", &R::exit_signal),
                      field("limits_note", &R::limits_note), field("control_groups", &R::control_groups));
  }
};

struct StopRecord {
  int64_t generation = 0;
  int64_t grace_ms = 0;
  int64_t requested_at_ms = 0;

  static constexpr auto fields() {
    using R = StopRecord;
    return std::tuple(field("generation", &R::generation), field("grace_ms", &R::grace_ms),
                      field("requested_at_ms", &R::requested_at_ms));
  }
};

class ReplicaFolder {
 public:
  explicit ReplicaFolder(std::filesystem::path path) : path_(std::move(path)) {}
  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path log() const { return path_ / "log"; }
  std::filesystem::path keeper_log() const { return path_ / "keeper.log"; }

  // Nothing: there is no such file, or it is damaged (as after a power cut, which also ended every process).
  std::optional<SpecRecord> spec() const;
  std::optional<StatusRecord> status() const;
  std::optional<StopRecord> stop() const;
  // As write_file_atomic(); throws Error.
  void write(const SpecRecord& record) const;
  void write(const StatusRecord& record) const;
  void write(const StopRecord& record) const;

  // The keeper, if one lives. Not to be called by a process that holds a lock here: it would lose it.
  std::optional<ProcessIdentity> keeper() const;

  // The lock has two bytes: a keeper has both while it lives, a provider has the second for the moment of a change that no keeper
  // may see half done. Held until the descriptor, or any other of this process on the same file, is closed. Empty: somebody else has
  // it, or the folder was removed meanwhile.
  FileDescriptor lock_as_keeper() const;  // waits for a provider's moment, not for another keeper
  FileDescriptor lock_as_provider() const;

  // In the environment of all that the replica starts, to know it by.
  std::string mark() const;

 private:
  FileDescriptor open_lock() const;
  bool still_named(const FileDescriptor& lock) const;
  template <typename Record>
  std::optional<Record> read(const char* name) const;
  template <typename Record>
  void write_record(const char* name, const Record& record) const;

  std::filesystem::path path_;
};

}  // namespace neutrino::cloud
