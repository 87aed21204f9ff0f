#include "cloud/supervisor.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/log.h"

extern char** environ;

namespace neutrino::cloud {
namespace fs = std::filesystem;
namespace {

constexpr const char* kListeners = "NEUTRINO_LISTENERS";    // "gateway=3,api=4"
constexpr const char* kSupervisor = "NEUTRINO_SUPERVISOR";  // its pid
constexpr int kFirstInherited = 3;                          // SpawnOptions::inherited
constexpr int kQueue = 4096;                                // clients that wait while a child starts
constexpr int64_t kBindRetryMilliseconds = 50;
constexpr int kBadUsage = 2;

int64_t now_ms() { return SystemClock().now_ns() / 1'000'000; }

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

Address resolve(const ListenAddress& listen) {
  if (listen.port < 0 || listen.port > 65535)
    throw make_error(ErrorCode::invalid_argument, "port must be 0-65535, got {}", listen.port);
  Address address;
  auto* const v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  const std::string host = listen.host == "localhost" ? "127.0.0.1" : listen.host;
  const auto port = htons(static_cast<uint16_t>(listen.port));
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = port;
    address.size = sizeof *v4;
  } else if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    address.size = sizeof *v6;
  } else {
    throw make_error(ErrorCode::invalid_argument, "the host to listen on must be an IP address, got \"{}\"",
                     listen.host);
  }
  return address;
}

// Empty: the port is busy.
FileDescriptor try_listen(const ListenAddress& listen) {
  Address address = resolve(listen);
  FileDescriptor fd(::socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int yes = 1;
  if (fd) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (fd && ::bind(fd.get(), address.get(), address.size) == 0 && ::listen(fd.get(), kQueue) == 0) return fd;
  if (errno == EADDRINUSE) return {};
  throw make_error(ErrorCode::unavailable, "cannot listen on {} port {}: {}", listen.host, listen.port,
                   std::strerror(errno));
}

int port_of(const FileDescriptor& fd) {
  Address address;
  address.size = sizeof address.storage;
  ::getsockname(fd.get(), address.get(), &address.size);
  if (address.storage.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<sockaddr_in6*>(&address.storage)->sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in*>(&address.storage)->sin_port);
}

class Supervisor {
 public:
  explicit Supervisor(const SupervisorOptions& options) : options_(options) {
    for (const SupervisedChild& child : options.children) children_.push_back({.options = &child});
  }
  int run();

 private:
  struct Child {
    const SupervisedChild* options = nullptr;
    ProcessIdentity process;  // pid 0: none runs
    int64_t started_ms = 0, failures = 0;
    int64_t start_at_ms = 0;  // when none runs
    int64_t kill_at_ms = 0;   // when draining
    bool ran = false;         // once at least
  };

  void take_lock();
  void hear_signals();
  void listen();
  void start_due();
  void start(Child& child);
  void wait_for_something();
  void take_signals();
  void reap();
  void on_end(Child& child, const ExitStatus& status);
  void schedule(Child& child, int64_t ran_ms);
  void drain_next();
  std::vector<std::string> environment(const SupervisedChild& child) const;
  const FileDescriptor& listener(const std::string& name) const;

  const SupervisorOptions& options_;
  std::vector<Child> children_;
  std::vector<FileDescriptor> listeners_;  // as in the options
  FileDescriptor lock_, signals_;
  int stop_signals_ = 0;  // how often it was told to end
  int exit_code_ = 0;
};

int Supervisor::run() {
  take_lock();
  hear_signals();
  listen();
  for (;;) {
    if (stop_signals_ == 0)
      start_due();
    else
      drain_next();
    if (stop_signals_ > 0 &&
        std::ranges::all_of(children_, [](const Child& c) { return c.process.pid == 0; }))
      break;
    wait_for_something();
    take_signals();
    reap();
  }
  spdlog::info("supervisor stopped; replicas go on");
  return exit_code_;
}

void Supervisor::take_lock() {
  lock_ = FileDescriptor(::open(options_.lock_file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  if (!lock_) throw system_error("open", options_.lock_file);
  if (!try_lock(lock_, Lock::exclusive)) {
    char pid[16] = {};
    if (::pread(lock_.get(), pid, sizeof pid - 1, 0) <= 0) pid[0] = '?';
    throw make_error(ErrorCode::failed_precondition, "another supervisor runs for {} (pid {})",
                     options_.lock_file.parent_path().string(),
                     std::string_view(pid).substr(0, std::strcspn(pid, "\n")));
  }
  if (::ftruncate(lock_.get(), 0) != 0) throw system_error("write", options_.lock_file);
  write_all(lock_.get(), fmt::format("{}\n", ::getpid()), options_.lock_file);
}

void Supervisor::hear_signals() {
  sigset_t heard;
  ::sigemptyset(&heard);
  for (const int signal : {SIGTERM, SIGINT, SIGCHLD}) ::sigaddset(&heard, signal);
  ::pthread_sigmask(SIG_BLOCK, &heard, nullptr);
  signals_ = FileDescriptor(::signalfd(-1, &heard, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) throw system_error("listen to", "signals");
}

void Supervisor::listen() {
  const int64_t until_ms = now_ms() + options_.bind_patience_ms;
  std::vector<int> ports;
  for (const ListenAddress& address : options_.listeners) {
    FileDescriptor fd;
    while (!(fd = try_listen(address))) {
      if (now_ms() >= until_ms)
        throw make_error(ErrorCode::unavailable, "port {} on {} is in use by another program", address.port,
                         address.host);
      std::this_thread::sleep_for(milliseconds(kBindRetryMilliseconds));
    }
    ports.push_back(port_of(fd));
    listeners_.push_back(std::move(fd));
  }
  if (options_.on_listening) options_.on_listening(ports);
}

const FileDescriptor& Supervisor::listener(const std::string& name) const {
  for (size_t i = 0; i < listeners_.size(); ++i)
    if (options_.listeners[i].name == name) return listeners_[i];
  throw make_error(ErrorCode::invalid_argument, "there is no listener named \"{}\"", name);
}

std::vector<std::string> Supervisor::environment(const SupervisedChild& child) const {
  std::vector<std::string> result;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view name = std::string_view(*entry).substr(0, std::strcspn(*entry, "="));
    if (name != kListeners && name != kSupervisor) result.emplace_back(*entry);
  }
  std::string listeners;
  for (size_t i = 0; i < child.listeners.size(); ++i)
    listeners +=
        fmt::format("{}{}={}", i > 0 ? "," : "", child.listeners[i], kFirstInherited + static_cast<int>(i));
  result.push_back(fmt::format("{}={}", kListeners, listeners));
  result.push_back(fmt::format("{}={}", kSupervisor, ::getpid()));
  return result;
}

void Supervisor::start_due() {
  for (Child& child : children_)
    if (child.process.pid == 0 && now_ms() >= child.start_at_ms) start(child);
}

void Supervisor::start(Child& child) {
  SpawnOptions spawn_options{.argv = child.options->argv,
                             .environment = environment(*child.options),
                             .output = STDOUT_FILENO,
                             .error = STDERR_FILENO,
                             .group = ProcessGroup::own,
                             .parent_death_signal = SIGTERM};
  for (const std::string& name : child.options->listeners)
    spawn_options.inherited.push_back(listener(name).get());
  child.started_ms = now_ms();
  try {
    child.process = spawn(spawn_options);
  } catch (const Error& error) {
    if (!child.ran)
      throw;  // as described it cannot run; later it may be that the program is just being replaced
    spdlog::error("cannot start child={} error=\"{}\"", child.options->name, error.message());
    return schedule(child, 0);
  }
  spdlog::info("started child={} pid={}", child.options->name, child.process.pid);
  if (options_.on_start) options_.on_start(child.options->name, child.process.pid);
}

void Supervisor::wait_for_something() {
  int64_t until_ms = INT64_MAX;
  for (const Child& child : children_) {
    if (stop_signals_ == 0 && child.process.pid == 0) until_ms = std::min(until_ms, child.start_at_ms);
    if (stop_signals_ > 0 && child.process.pid != 0 && child.kill_at_ms > 0)
      until_ms = std::min(until_ms, child.kill_at_ms);
  }
  const int64_t wait_ms = until_ms == INT64_MAX ? -1 : std::clamp<int64_t>(until_ms - now_ms(), 0, 60'000);
  pollfd wait{.fd = signals_.get(), .events = POLLIN, .revents = 0};
  ::poll(&wait, 1, static_cast<int>(wait_ms));
}

void Supervisor::take_signals() {
  signalfd_siginfo info{};
  while (::read(signals_.get(), &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGCHLD) continue;
    ++stop_signals_;
    spdlog::info("told to stop signal={}", info.ssi_signo);
  }
}

// As init of a container it also gets other people's orphans.
void Supervisor::reap() {
  int status = 0;
  for (pid_t pid = 0; (pid = ::waitpid(-1, &status, WNOHANG)) > 0;)
    for (Child& child : children_)
      if (child.process.pid == pid) on_end(child, to_exit_status(status));
}

void Supervisor::on_end(Child& child, const ExitStatus& status) {
  const int64_t ran_ms = now_ms() - child.started_ms;
  child.process = {};
  if (stop_signals_ > 0) {
    spdlog::info("ended child={} status=\"{}\"", child.options->name, exit_text(status));
    return;
  }
  if (status == ExitStatus{.code = kBadUsage} && !child.ran) {  // it has said why, and will say it again
    stop_signals_ = 1;
    exit_code_ = kBadUsage;
    return;
  }
  child.ran = true;
  schedule(child, ran_ms);
  spdlog::error("ended, starts again child={} status=\"{}\" ran_ms={} delay_ms={}", child.options->name,
                exit_text(status), ran_ms, child.start_at_ms - now_ms());
}

void Supervisor::schedule(Child& child, int64_t ran_ms) {
  const RestartDecision decision = decide_restart(options_.restarts, child.failures, ran_ms, Reason::crashed);
  child.failures = decision.failures;
  child.start_at_ms = now_ms() + decision.delay_ms;
}

// One child after the other: the first that still runs is told to end, with a second signal all are killed.
void Supervisor::drain_next() {
  for (Child& child : children_) {
    if (child.process.pid == 0) continue;
    if (child.kill_at_ms == 0) {
      signal_process(child.process, SIGTERM);
      child.kill_at_ms = now_ms() + child.options->drain_ms;
    }
    if (stop_signals_ > 1 || now_ms() >= child.kill_at_ms) {
      signal_group(child.process, SIGKILL);
      child.kill_at_ms = INT64_MAX;
    }
    if (stop_signals_ == 1) return;
  }
}

}  // namespace

int run_supervisor(const SupervisorOptions& options) { return Supervisor(options).run(); }

std::optional<int> inherited_listener(std::string_view name) {
  const char* text = std::getenv(kListeners);
  for (std::string_view rest = text ? text : ""; !rest.empty();) {
    const std::string_view entry = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), entry.size() + 1));
    const size_t equals = entry.find('=');
    if (equals == entry.npos || entry.substr(0, equals) != name) continue;
    int fd = -1;
    const std::string_view number = entry.substr(equals + 1);
    const auto [last, error] = std::from_chars(number.data(), number.data() + number.size(), fd);
    if (error == std::errc() && last == number.data() + number.size() && fd >= kFirstInherited) return fd;
  }
  return std::nullopt;
}

bool supervisor_is_gone() {
  const char* pid = std::getenv(kSupervisor);
  return pid != nullptr && std::to_string(::getppid()) != pid;
}

}  // namespace neutrino::cloud
