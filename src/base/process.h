// Processes: start one, know it again, signal it and its group, learn of its end.
//
// A pid names nobody for long: the kernel gives it to another process once its owner is gone. A process is therefore known by its
// pid and the time at which it started, and whatever acts on one looks at both; where the kernel has pidfds (Linux 5.3), the
// look and the act concern the same process for certain.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"

namespace neutrino {

struct ProcessIdentity {
  pid_t pid = 0;
  int64_t start_ticks = 0;  // since the machine started; field 22 of /proc/PID/stat
  bool operator==(const ProcessIdentity&) const = default;
};

enum class ProcessGroup {
  callers,  // signals of a terminal reach it too
  own,      // a group of its own, which signal_group() reaches
  session,  // likewise, and no terminal
};

struct SpawnOptions {
  std::vector<std::string> argv;  // argv[0] without a slash is looked for in the caller's PATH
  std::optional<std::vector<std::string>> environment;  // "NAME=value"; nothing: the caller's
  std::filesystem::path working_directory;              // empty: the caller's
  int input = -1, output = -1, error = -1;              // borrowed; -1: /dev/null
  std::vector<int> inherited;  // borrowed; they become 3, 4, ... in this order, all others are closed
  ProcessGroup group = ProcessGroup::own;
  int parent_death_signal = 0;               // sent to it when the calling *thread* ends; 0: none
  std::vector<std::filesystem::path> enter;  // control groups' cgroup.procs, entered before the program runs
  int report_pid_to = -1;  // borrowed: a file that gets the pid as text before the program runs
};

// Starts a program; signals are as after a login (none blocked, none ignored). Returns when it has begun, or throws
// Error{not_found, permission_denied, ...} that says which step failed. The caller reaps it: wait_for(), try_wait().
ProcessIdentity spawn(const SpawnOptions& options);

struct ExitStatus {
  int code = 0;    // of exit(); 0 if a signal ended it
  int signal = 0;  // that ended it, or 0
  bool operator==(const ExitStatus&) const = default;
};
ExitStatus to_exit_status(int wait_status);       // of waitpid()
std::string exit_text(const ExitStatus& status);  // "exit code 1", "signal 9 (Killed)"

// Of the caller's own children. try_wait(): nothing while it runs, or if it is no child.
std::optional<ExitStatus> try_wait(pid_t pid);
ExitStatus wait_for(pid_t pid);  // throws Error{not_found} for a stranger

// Nothing if there is no such process. One that ended but is not reaped yet still counts here.
std::optional<ProcessIdentity> identify(pid_t pid);
ProcessIdentity this_process();
std::string own_program();  // the path of the binary that this process runs

bool is_running(const ProcessIdentity& process);  // exists, is the one that is meant, and has not ended

// A descriptor that polls readable when the process ends; also for processes that are no children. Empty: it is gone, or the
// kernel has no pidfds.
FileDescriptor open_pidfd(const ProcessIdentity& process);

// False: there is no such process any more. Throws Error{permission_denied} for somebody else's.
bool signal_process(const ProcessIdentity& process, int signal);
// Likewise the whole group that began with it. It may be a zombie; once it is reaped nobody can know whose the group's number is.
bool signal_group(const ProcessIdentity& leader, int signal);

// Orphans among this process's descendants become its children rather than init's.
void adopt_orphans();
// Kills every descendant that `spare` does not name and reaps those that become children, until none is left or `patience_ms` is over.
// Returns how many are left. For a process that adopts orphans: what left its group by setsid() is found too.
int64_t kill_descendants(int64_t patience_ms, pid_t spare = 0);

// All processes of this user whose environment at their start held exactly `entry` ("NAME=value").
std::vector<ProcessIdentity> find_by_environment(std::string_view entry);

// What the kernel writes in /proc/PID/stat, as far as it is of use here. Nothing for malformed text.
struct ProcessStat {
  pid_t pid = 0;
  char state = '?';  // 'Z', 'X': it has ended
  pid_t parent = 0, group = 0;
  int64_t start_ticks = 0;
};
std::optional<ProcessStat> parse_process_stat(std::string_view text);

}  // namespace neutrino
