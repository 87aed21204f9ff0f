// spawn(): everything between vfork and exec.
//
// The child of a vfork runs in its parent's memory while the parent's thread waits, so it may only make system calls on what was
// prepared for it. It costs the same however much memory the parent has, where a fork copies page tables.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/process.h"

extern char** environ;

namespace neutrino {
namespace fs = std::filesystem;
namespace {

enum class Step : int { descriptors, group, parent, control_group, report, folder, program };

struct Failure {
  Step step = Step::program;
  int number = 0;  // errno
};

// What the child needs, laid out before it exists. It writes to `moved` only.
struct Plan {
  std::string program;
  std::string folder;
  std::vector<char*> argv, environment;
  std::vector<int> sources;  // of descriptors 0, 1, 2, 3, ...
  std::vector<int> moved;    // the same, out of the way of these numbers
  std::vector<std::string> control_groups;
  ProcessGroup group = ProcessGroup::own;
  int parent_death_signal = 0;
  pid_t parent = 0;
  int failure_to = -1;  // pipe; closed by a successful exec
  int report_pid_to = -1;
};

[[noreturn]] void fail(const Plan& plan, Step step) noexcept {
  const Failure failure{.step = step, .number = errno};
  if (::write(plan.failure_to, &failure, sizeof failure) < 0) ::_exit(126);
  ::_exit(127);
}

void reset_signals() noexcept {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
}

// Decimal, without the library's locks and allocations.
bool write_pid(int fd) noexcept {
  char text[16];
  size_t at = sizeof text;
  text[--at] = '\n';
  for (pid_t rest = ::getpid(); rest > 0; rest /= 10) text[--at] = static_cast<char>('0' + rest % 10);
  return ::write(fd, text + at, sizeof text - at) == static_cast<ssize_t>(sizeof text - at);
}

void place_descriptors(Plan& plan) noexcept {
  const int count = static_cast<int>(plan.sources.size());
  const int failure_to = ::fcntl(plan.failure_to, F_DUPFD_CLOEXEC, count);
  if (failure_to < 0) fail(plan, Step::descriptors);
  plan.failure_to = failure_to;
  for (int i = 0; i < count; ++i) {
    const auto index = static_cast<size_t>(i);
    plan.moved[index] = ::fcntl(plan.sources[index], F_DUPFD_CLOEXEC, count);
    if (plan.moved[index] < 0) fail(plan, Step::descriptors);
  }
  for (int i = 0; i < count; ++i)
    if (::dup2(plan.moved[static_cast<size_t>(i)], i) < 0) fail(plan, Step::descriptors);
}

// All but 0 .. count-1 and the pipe that tells of failures.
void close_others(const Plan& plan) noexcept {
  const auto first = static_cast<unsigned>(plan.sources.size()),
             kept = static_cast<unsigned>(plan.failure_to);
  if (first < kept) ::syscall(SYS_close_range, first, kept - 1, 0);
  ::syscall(SYS_close_range, kept + 1, ~0u, 0);
}

void enter_control_groups(const Plan& plan) noexcept {
  for (const std::string& path : plan.control_groups) {
    const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ::write(fd, "0", 1) != 1) fail(plan, Step::control_group);
    ::close(fd);
  }
}

[[noreturn]] void run_child(Plan& plan) noexcept {
  reset_signals();
  if (plan.group == ProcessGroup::own && ::setpgid(0, 0) != 0) fail(plan, Step::group);
  if (plan.group == ProcessGroup::session && ::setsid() < 0) fail(plan, Step::group);
  if (plan.parent_death_signal != 0) {
    if (::prctl(PR_SET_PDEATHSIG, plan.parent_death_signal) != 0) fail(plan, Step::parent);
    if (::getppid() != plan.parent) ::_exit(127);  // it died before we asked
  }
  enter_control_groups(plan);
  if (plan.report_pid_to >= 0 && !write_pid(plan.report_pid_to)) fail(plan, Step::report);
  place_descriptors(plan);
  close_others(plan);
  if (!plan.folder.empty() && ::chdir(plan.folder.c_str()) != 0) fail(plan, Step::folder);
  ::execve(plan.program.c_str(), plan.argv.data(), plan.environment.data());
  fail(plan, Step::program);
}

std::string find_program(const std::string& name) {
  if (name.find('/') != name.npos) return name;
  const char* path = std::getenv("PATH");
  std::string_view folders = path ? path : "/usr/local/bin:/usr/bin:/bin";
  while (!folders.empty()) {
    const size_t end = std::min(folders.find(':'), folders.size());
    const fs::path candidate = fs::path(folders.substr(0, end)) / name;
    if (std::error_code ignored;
        ::access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate, ignored))
      return candidate.string();
    folders.remove_prefix(std::min(end + 1, folders.size()));
  }
  throw make_error(ErrorCode::not_found, "the program \"{}\" must be in PATH, and is not", name);
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> result;
  for (const std::string& text : texts) result.push_back(const_cast<char*>(text.c_str()));
  result.push_back(nullptr);
  return result;
}

Plan make_plan(const SpawnOptions& options, const FileDescriptor& nothing) {
  Plan plan;
  plan.program = find_program(options.argv[0]);
  plan.folder = options.working_directory.string();
  plan.argv = pointers(options.argv);
  if (options.environment) plan.environment = pointers(*options.environment);
  for (char** entry = environ; !options.environment && *entry != nullptr; ++entry)
    plan.environment.push_back(*entry);
  if (!options.environment) plan.environment.push_back(nullptr);
  for (const int fd : {options.input, options.output, options.error})
    plan.sources.push_back(fd >= 0 ? fd : nothing.get());
  plan.sources.insert(plan.sources.end(), options.inherited.begin(), options.inherited.end());
  plan.moved.resize(plan.sources.size(), -1);
  for (const fs::path& path : options.enter) plan.control_groups.push_back(path.string());
  plan.group = options.group;
  plan.parent_death_signal = options.parent_death_signal;
  plan.parent = ::getpid();
  plan.report_pid_to = options.report_pid_to;
  return plan;
}

// No handler of the caller may run in the child, which shares its memory.
pid_t start_child(Plan& plan) {
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t child = ::vfork();
  if (child == 0) run_child(plan);
  const int number = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = number;
  return child;
}

[[noreturn]] void throw_failure(const Failure& failure, const SpawnOptions& options) {
  errno = failure.number;
  switch (failure.step) {
    case Step::program: throw system_error("run", options.argv[0]);
    case Step::folder: throw system_error("work in", options.working_directory);
    case Step::control_group: throw system_error("enter the control group of", options.argv[0]);
    case Step::report: throw system_error("note the pid of", options.argv[0]);
    default: throw system_error("prepare the process of", options.argv[0]);
  }
}

}  // namespace

ProcessIdentity spawn(const SpawnOptions& options) {
  if (options.argv.empty() || options.argv[0].empty())
    throw make_error(ErrorCode::invalid_argument, "a command must name a program, got none");
  const FileDescriptor nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) throw system_error("open", "/dev/null");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw system_error("make a pipe for", options.argv[0]);
  const FileDescriptor failure_from(ends[0]);
  FileDescriptor failure_to(ends[1]);
  Plan plan = make_plan(options, nothing);
  plan.failure_to = failure_to.get();
  const pid_t child = start_child(plan);
  if (child < 0) throw system_error("start a process for", options.argv[0]);
  const auto identity = identify(child);  // there until it is reaped, which only we do
  failure_to = FileDescriptor();
  Failure failure;
  ssize_t got = 0;
  do got = ::read(failure_from.get(), &failure, sizeof failure);
  while (got < 0 && errno == EINTR);
  if (got == sizeof failure) {
    wait_for(child);
    throw_failure(failure, options);
  }
  check(identity.has_value(), "a child stays until it is reaped");
  return *identity;
}

}  // namespace neutrino
