#include "cloud/providers/keeper.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/sha256.h"
#include "cloud/provider.h"
#include "cloud/providers/cgroup.h"
#include "cloud/providers/log_spool.h"
#include "cloud/providers/replica_folder.h"

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr int64_t kSweepMilliseconds = 5000;  // for what the replica left behind to be gone
constexpr int64_t kStatusRetryMilliseconds = 1000;
constexpr size_t kTailBytes = 512;  // of the output, for the message of an error
constexpr const char* kHost = "127.0.0.1";

int64_t now_ms() { return SystemClock().now_ns() / 1'000'000; }

// A port that is ours until the descriptor is closed: bound, but not listening, both with SO_REUSEADDR, so that a server with this
// (customary) option can bind and listen there, while the kernel gives the port to nobody who asks for any.
struct Port {
  FileDescriptor socket;
  int number = 0;
};

Port reserve_port() {
  Port port{.socket = FileDescriptor(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::inet_addr(kHost);
  socklen_t size = sizeof address;
  const int yes = 1;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (!port.socket || ::setsockopt(port.socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0 ||
      ::bind(port.socket.get(), any, size) != 0 || ::getsockname(port.socket.get(), any, &size) != 0)
    throw system_error("reserve a port on", kHost);
  port.number = ntohs(address.sin_port);
  return port;
}

std::string replace_all(std::string text, std::string_view from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != text.npos; at += to.size())
    text.replace(at, from.size(), to);
  return text;
}

class Keeper {
 public:
  Keeper(ReplicaFolder folder, SpecRecord spec, std::vector<std::string> environment)
      : folder_(std::move(folder)),
        spec_(std::move(spec)),
        environment_(std::move(environment)),
        spool_(folder_.log(), spec_.log_file_bytes, spec_.log_files) {}

  void run();

 private:
  bool begin();
  void start_program(const Port& port);
  void keep();
  void take_signals();
  bool look_for_end();
  void hear_stop();
  void take_output();
  int poll_timeout_ms() const;
  void end_group();
  void finish();
  void conclude(Reason reason, std::string message);
  std::string last_line() const;
  void note(bool must);

  ReplicaFolder folder_;
  SpecRecord spec_;
  std::vector<std::string> environment_;  // of the replica
  StatusRecord status_;
  LogSpool spool_;
  Cgroup group_;
  FileDescriptor signals_, output_;
  ProcessIdentity program_;
  bool ended_ = false, killed_ = false;
  bool noted_ = false;                 // status.json says what status_ does
  std::optional<int64_t> kill_at_ms_;  // set: it was told to end
  std::string tail_;                   // the last bytes of the output
};

void Keeper::run() {
  if (!begin()) return;
  const Port port = reserve_port();
  try {
    start_program(port);
  } catch (const Error& error) {
    const bool description = error.code() == ErrorCode::not_found ||
                             error.code() == ErrorCode::permission_denied ||
                             error.code() == ErrorCode::invalid_argument;
    group_.kill_and_remove(kSweepMilliseconds);
    conclude(description ? Reason::config_error : Reason::system_error, error.message());
    return note(true);
  }
  keep();
  finish();
}

// The order matters: who stops a replica writes stop.json and then looks for a keeper to signal; a keeper can be signalled,
// and then looks for stop.json. One of the two sees the other.
bool Keeper::begin() {
  sigset_t heard;
  ::sigemptyset(&heard);
  for (const int signal : {SIGCHLD, SIGTERM, SIGINT}) ::sigaddset(&heard, signal);
  ::sigprocmask(SIG_BLOCK, &heard, nullptr);
  for (const int signal : {SIGPIPE, SIGHUP, SIGXFSZ}) ::signal(signal, SIG_IGN);
  signals_ = FileDescriptor(::signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw system_error("listen to signals for", folder_.path());
  adopt_orphans();
  status_ = {.generation = spec_.generation,
             .phase = std::string(phase_name(ReplicaPhase::starting)),
             .reason = std::string(reason_name(Reason::in_progress)),
             .message = "its process is being set up"};
  note(true);
  const auto stop = folder_.stop();
  if (!stop || stop->generation < spec_.generation) return true;
  conclude(Reason::stopped, "stopped before it began");
  note(true);
  return false;
}

void Keeper::start_program(const Port& port) {
  const std::string name = "neutrino-" + to_hex(sha256(folder_.path().string())).substr(0, 16);
  group_ = Cgroup::make(
      name,
      {.memory_bytes = spec_.memory_bytes, .cores = spec_.cores, .processes = limits::kReplicaProcesses});
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw system_error("make a pipe for", spec_.id);
  output_ = FileDescriptor(ends[0]);
  const FileDescriptor written(ends[1]);
  ::fcntl(output_.get(), F_SETFL, O_NONBLOCK);
  SpawnOptions options{.working_directory = spec_.working_directory,
                       .output = written.get(),
                       .error = written.get(),
                       .group = ProcessGroup::own,
                       .parent_death_signal = SIGKILL,
                       .enter = group_.enter()};
  for (std::string word : spec_.command) {
    word = replace_all(replace_all(word, "{port}", std::to_string(port.number)), "{host}", kHost);
    options.argv.push_back(replace_all(word, kOwnProgram, own_program()));
  }
  options.environment = environment_;
  options.environment->push_back(folder_.mark());
  options.environment->push_back(fmt::format("NEUTRINO_GENERATION={}", spec_.generation));
  options.environment->push_back(fmt::format("PORT={}", port.number));
  program_ = spawn(options);
  status_.phase = phase_name(ReplicaPhase::running);
  status_.message = fmt::format("pid {}", program_.pid);
  status_.pid = program_.pid;
  status_.start_ticks = program_.start_ticks;
  status_.host = kHost;
  status_.port = port.number;
  status_.started_at_ms = SystemClock().unix_ms();
  status_.limits_note = group_.note();
  for (const fs::path& folder : group_.folders()) status_.control_groups.push_back(folder.string());
  note(false);  // until it works the replica runs all the same, and seems to be starting
}

void Keeper::keep() {
  hear_stop();
  while (!ended_) {
    pollfd waits[2] = {{.fd = signals_.get(), .events = POLLIN, .revents = 0},
                       {.fd = output_.get(), .events = POLLIN, .revents = 0}};
    ::poll(waits, 2, poll_timeout_ms());
    if (!noted_) note(false);
    if (waits[1].revents != 0) take_output();
    if (waits[0].revents != 0) take_signals();
    ended_ = look_for_end();
    if (kill_at_ms_ && !killed_ && now_ms() >= *kill_at_ms_) {
      signal_group(program_, SIGKILL);
      killed_ = true;
    }
  }
}

int Keeper::poll_timeout_ms() const {
  int64_t timeout_ms = noted_ ? -1 : kStatusRetryMilliseconds;
  if (kill_at_ms_ && !killed_)
    timeout_ms = std::clamp<int64_t>(*kill_at_ms_ - now_ms(), 0, kStatusRetryMilliseconds);
  return static_cast<int>(timeout_ms);
}

void Keeper::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) continue;
    hear_stop();
    if (!kill_at_ms_) {  // somebody signalled the keeper itself
      kill_at_ms_ = now_ms() + spec_.stop_grace_ms;
      signal_group(program_, SIGTERM);
    }
  }
}

// A first stop sends SIGTERM; a later one may only shorten the grace.
void Keeper::hear_stop() {
  const auto stop = folder_.stop();
  if (!stop || stop->generation < spec_.generation) return;
  const int64_t at = now_ms() + std::max<int64_t>(0, stop->grace_ms);
  if (!kill_at_ms_ && stop->grace_ms > 0) signal_group(program_, SIGTERM);
  kill_at_ms_ = std::min(kill_at_ms_.value_or(at), at);
}

// Reaps orphans; leaves the program itself unreaped, so that its group's number stays its own until the group is ended.
bool Keeper::look_for_end() {
  for (;;) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == 0) return false;
    if (info.si_pid == program_.pid) return true;
    try_wait(info.si_pid);
  }
}

void Keeper::take_output() {
  char buffer[1 << 16];
  for (;;) {
    const ssize_t got = ::read(output_.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) output_ = FileDescriptor();  // all writers are gone; poll() passes over -1
    if (got <= 0) return;
    const std::string_view text(buffer, static_cast<size_t>(got));
    spool_.append(text);
    tail_ += text.substr(text.size() - std::min(text.size(), kTailBytes));
    tail_.erase(0, tail_.size() - std::min(tail_.size(), kTailBytes));
    if (got < static_cast<ssize_t>(sizeof buffer)) return;
  }
}

// What the program started does not outlive it: its group, then whatever left the group, then the control group.
void Keeper::end_group() {
  signal_group(program_, SIGKILL);
  kill_descendants(kSweepMilliseconds, program_.pid);
  if (!group_.kill_and_remove(kSweepMilliseconds))
    spdlog::warn("something of the replica is left replica={}", spec_.id);
}

void Keeper::finish() {
  const int64_t kills = group_.kills_for_memory();
  end_group();
  const ExitStatus exit = wait_for(program_.pid);
  if (output_) take_output();
  spool_.append("");  // a last chance to say what is missing
  if (exit.signal != 0)
    status_.exit_signal = exit.signal;
  else
    status_.exit_code = exit.code;
  const std::string how = exit_text(exit);
  if (kill_at_ms_)
    conclude(Reason::stopped, killed_ ? how + " after its grace" : how);
  else if (exit.signal == SIGKILL && kills > 0)
    conclude(Reason::out_of_memory,
             fmt::format("needed more than its limit of {}", size_text(spec_.memory_bytes)));
  else if (exit == ExitStatus{})
    conclude(Reason::completed, how);
  else if (exit.signal == 0 && (exit.code == 2 || exit.code == 126 || exit.code == 127))
    conclude(Reason::config_error, how + last_line());
  else
    conclude(Reason::crashed, how + last_line());
  note(true);
}

void Keeper::conclude(Reason reason, std::string message) {
  status_.phase = phase_name(ReplicaPhase::exited);
  status_.reason = reason_name(reason);
  status_.message = std::move(message);
  status_.finished_at_ms = SystemClock().unix_ms();
}

std::string Keeper::last_line() const {
  std::string_view text = tail_;
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  const size_t line_break = text.rfind('\n');
  if (line_break != text.npos) text.remove_prefix(line_break + 1);
  std::string line;
  for (const char c : text.substr(0, 300)) line += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  return line.empty() ? line : ": " + line;
}

// `must`: tries for as long as it takes, since who would not know of an end would wait for it for ever; but what has no status
// yet has not begun and need not.
void Keeper::note(bool must) {
  const bool begun = status_.phase != phase_name(ReplicaPhase::starting);
  for (;;) {
    try {
      noted_ = false;
      folder_.write(status_);
      noted_ = true;
      return;
    } catch (const Error& error) {
      spdlog::error("cannot note what became of a replica replica={} error=\"{}\"", spec_.id,
                    error.message());
      if (!begun) throw;
      if (!must || !fs::exists(folder_.path())) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(kStatusRetryMilliseconds));
    }
  }
}

constexpr int kEnvironmentDescriptor = 3;

// Empty without such a descriptor: a keeper run by hand.
std::vector<std::string> take_environment() {
  std::string text;
  char buffer[4096];
  for (off_t at = 0;;) {
    const ssize_t got = ::pread(kEnvironmentDescriptor, buffer, sizeof buffer, at);
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
    at += got;
  }
  ::close(kEnvironmentDescriptor);
  std::vector<std::string> environment;
  for (size_t from = 0, to = 0; (to = text.find('\0', from)) != text.npos; from = to + 1)
    environment.push_back(text.substr(from, to - from));
  return environment;
}

}  // namespace

FileDescriptor environment_file(const std::vector<std::string>& environment) {
  FileDescriptor fd(::memfd_create("environment", MFD_CLOEXEC));
  if (!fd) throw system_error("make", "a file in memory");
  for (const std::string& entry : environment) write_all(fd.get(), entry + '\0', "a file in memory");
  return fd;
}

int run_keeper(const fs::path& path, int64_t generation) {
  const ReplicaFolder folder(path);
  try {
    std::vector<std::string> environment = take_environment();
    const FileDescriptor lock = folder.lock_as_keeper();
    if (!lock) return 0;  // another keeper is at work
    const auto spec = folder.spec();
    const auto status = folder.status();
    if (!spec || spec->generation != generation) return 0;     // something newer was asked for
    if (status && status->generation >= generation) return 0;  // it has had its run
    Keeper(folder, *spec, std::move(environment)).run();
    return 0;
  } catch (const std::exception& error) {
    spdlog::error("keeper ended folder={} error=\"{}\"", path.string(), error.what());
    return 1;
  }
}

}  // namespace neutrino::cloud
