#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstring>
#include <map>
#include <set>
#include <thread>

#include "base/error.h"
#include "base/limits.h"

namespace neutrino {
namespace fs = std::filesystem;
namespace {

constexpr unsigned kSignalWholeGroup = 1u << 2;  // PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9

int pidfd_open(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }
int pidfd_send_signal(int fd, int signal, unsigned flags) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, fd, signal, nullptr, flags));
}

std::optional<ProcessStat> read_stat(pid_t pid) {
  try {
    return parse_process_stat(read_file(fmt::format("/proc/{}/stat", pid), limits::kProcessStatBytes));
  } catch (const Error&) {
    return std::nullopt;  // gone, also between open and read
  }
}

template <typename Visit>
void for_each_process(Visit visit) {
  std::error_code ignored;
  for (fs::directory_iterator entry("/proc", ignored), end; entry != end; entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    pid_t pid = 0;
    const auto [last, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc() && last == name.data() + name.size()) visit(pid);
  }
}

std::vector<ProcessStat> descendants_of(pid_t root) {
  std::multimap<pid_t, ProcessStat> by_parent;
  for_each_process([&](pid_t pid) {
    if (const auto stat = read_stat(pid)) by_parent.emplace(stat->parent, *stat);
  });
  std::vector<ProcessStat> found;
  std::set<pid_t> seen{root};  // the picture is not of one moment: a reused pid could close a circle
  std::vector<pid_t> open{root};
  while (!open.empty()) {
    const auto [first, last] = by_parent.equal_range(open.back());
    open.pop_back();
    for (auto child = first; child != last; ++child)
      if (seen.insert(child->second.pid).second) {
        found.push_back(child->second);
        open.push_back(child->second.pid);
      }
  }
  return found;
}

bool sent(int result, const ProcessIdentity& process, int signal) {
  if (result == 0) return true;
  if (errno == ESRCH) return false;
  if (errno == EPERM)
    throw make_error(ErrorCode::permission_denied, "process {} belongs to another user: signal {} refused",
                     process.pid, signal);
  throw make_error(ErrorCode::internal, "cannot send signal {} to process {}: {}", signal, process.pid,
                   std::strerror(errno));
}

}  // namespace

std::optional<ProcessStat> parse_process_stat(std::string_view text) {
  // "pid (name) state parent group ...": the name may hold blanks and brackets, so its end is the last bracket.
  const size_t open = text.find(" ("), close = text.rfind(')');
  if (open == text.npos || close == text.npos || close < open) return std::nullopt;
  ProcessStat stat;
  const auto number = [](std::string_view word, auto& value) {
    const auto [last, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    return error == std::errc() && last == word.data() + word.size();
  };
  std::vector<std::string_view> words;  // from field 3, the state
  for (std::string_view rest = text.substr(close + 1); !rest.empty();) {
    const size_t from = rest.find_first_not_of(" \n");
    if (from == rest.npos) break;
    const size_t to = std::min(rest.find_first_of(" \n", from), rest.size());
    words.push_back(rest.substr(from, to - from));
    rest.remove_prefix(to);
  }
  if (words.size() < 20 || words[0].size() != 1) return std::nullopt;
  stat.state = words[0][0];
  if (!number(text.substr(0, open), stat.pid) || !number(words[1], stat.parent) ||
      !number(words[2], stat.group) || !number(words[19], stat.start_ticks))
    return std::nullopt;
  return stat;
}

std::optional<ProcessIdentity> identify(pid_t pid) {
  const auto stat = read_stat(pid);
  if (!stat) return std::nullopt;
  return ProcessIdentity{.pid = pid, .start_ticks = stat->start_ticks};
}

std::string own_program() { return fs::read_symlink("/proc/self/exe").string(); }

ProcessIdentity this_process() {
  const auto self = identify(::getpid());
  check(self.has_value(), "/proc must be there");
  return *self;
}

bool is_running(const ProcessIdentity& process) {
  const auto stat = read_stat(process.pid);
  return stat && stat->start_ticks == process.start_ticks && stat->state != 'Z' && stat->state != 'X';
}

FileDescriptor open_pidfd(const ProcessIdentity& process) {
  FileDescriptor fd(process.pid > 0 ? pidfd_open(process.pid) : -1);
  if (fd && identify(process.pid) != process) return {};  // looked at while the descriptor holds the pid
  return fd;
}

bool signal_process(const ProcessIdentity& process, int signal) {
  const FileDescriptor fd = open_pidfd(process);
  if (fd) return sent(pidfd_send_signal(fd.get(), signal, 0), process, signal);
  if (process.pid <= 0 || identify(process.pid) != process) return false;
  return sent(::kill(process.pid, signal), process, signal);
}

bool signal_group(const ProcessIdentity& leader, int signal) {
  const FileDescriptor fd = open_pidfd(leader);
  const auto stat = leader.pid > 0 ? read_stat(leader.pid) : std::nullopt;
  if (!stat || stat->start_ticks != leader.start_ticks) return false;
  const bool group_sent =
      (fd && pidfd_send_signal(fd.get(), signal, kSignalWholeGroup) == 0) || ::kill(-leader.pid, signal) == 0;
  if (group_sent && stat->group == leader.pid) return true;
  return sent(::kill(leader.pid, signal), leader, signal);  // it has left its group
}

std::string exit_text(const ExitStatus& status) {
  if (status.signal == 0) return fmt::format("exit code {}", status.code);
  const char* name = ::strsignal(status.signal);
  return fmt::format("signal {} ({})", status.signal, name ? name : "unknown");
}

ExitStatus to_exit_status(int wait_status) {
  if (WIFSIGNALED(wait_status)) return {.signal = WTERMSIG(wait_status)};
  return {.code = WEXITSTATUS(wait_status)};
}

std::optional<ExitStatus> try_wait(pid_t pid) {
  int status = 0;
  pid_t got = 0;
  do got = ::waitpid(pid, &status, WNOHANG);
  while (got < 0 && errno == EINTR);
  if (got != pid) return std::nullopt;
  return to_exit_status(status);
}

ExitStatus wait_for(pid_t pid) {
  int status = 0;
  pid_t got = 0;
  do got = ::waitpid(pid, &status, 0);
  while (got < 0 && errno == EINTR);
  if (got != pid) throw make_error(ErrorCode::not_found, "process {} is no child of this one", pid);
  return to_exit_status(status);
}

void adopt_orphans() { check(::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "PR_SET_CHILD_SUBREAPER"); }

int64_t kill_descendants(int64_t patience_ms, pid_t spare) {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + std::chrono::milliseconds(patience_ms);
  for (;;) {
    int64_t left = 0;
    for (const ProcessStat& process : descendants_of(::getpid())) {
      if (process.pid == spare) continue;
      if (process.state == 'Z' && process.parent == ::getpid()) {
        try_wait(process.pid);
        continue;
      }
      ++left;
      ::kill(process.pid,
             SIGKILL);  // a descendant's pid stays taken until its parent, in the end this process, reaps it
    }
    if (left == 0 || Clock::now() >= until) return left;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

std::vector<ProcessIdentity> find_by_environment(std::string_view entry) {
  std::vector<ProcessIdentity> found;
  const std::string wanted = std::string(1, '\0') + std::string(entry) + std::string(1, '\0');
  for_each_process([&](pid_t pid) {
    const auto before = read_stat(pid);
    if (!before || before->state == 'Z' || before->state == 'X') return;
    try {
      std::string environment(1, '\0');
      environment += read_file(fmt::format("/proc/{}/environ", pid), limits::kProcessEnvironmentBytes);
      if (environment.find(wanted) == environment.npos) return;
      found.push_back({.pid = pid, .start_ticks = before->start_ticks});
    } catch (const Error&) {
      return;  // gone, or somebody else's
    }
  });
  return found;
}

}  // namespace neutrino
