// `supervisor FOLDER PORT` and the children that it keeps, `supervised NAME FOLDER`.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "cloud/providers/local.h"
#include "cloud/supervisor.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud::testing {
namespace {

namespace fs = std::filesystem;

void note(const fs::path& folder, const std::string& line) {
  const FileDescriptor fd(
      ::open((folder / "journal").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  write_all(fd.get(), line + "\n", folder);
}

// The control plane starts a replica, as ours will.
void start_replica(const fs::path& folder) {
  LocalProvider provider({.folder = folder / "replicas",
                          .keeper_command = program("keeper"),
                          .environment = harmless_environment()});
  ReplicaSpec spec{.id = "r1", .command = program("replica")};
  spec.command.push_back("{port}");
  provider.start(spec);
}

}  // namespace

int run_test_supervisor(int argc, char** argv) {
  if (argc != 3) return 2;
  const fs::path folder = argv[1];
  SupervisorOptions options;
  for (const char* name : {"gateway", "control-plane"}) {
    SupervisedChild child{
        .name = name, .argv = program("supervised"), .listeners = {name}, .drain_ms = 20'000};
    child.argv.insert(child.argv.end(), {name, folder.string()});
    options.children.push_back(child);
  }
  options.listeners = {{.name = "gateway", .port = std::atoi(argv[2])}, {.name = "control-plane"}};
  options.lock_file = folder / "supervisor.lock";
  options.on_listening = [&](const std::vector<int>& ports) {
    write_file_atomic(folder / "ports", fmt::format("{} {}\n", ports[0], ports[1]));
  };
  options.on_start = [&](const std::string& child, pid_t pid) {
    note(folder, fmt::format("start {} {}", child, pid));
  };
  return run_supervisor(options);
}

int run_supervised(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::string name = argv[1];
  const fs::path folder = argv[2];
  if (fs::exists(folder / ("refuse-" + name))) return 2;
  if (fs::exists(folder / ("crash-" + name))) return 1;
  const auto listener = inherited_listener(name);
  if (!listener || inherited_listener("another")) return 3;
  if (name == "control-plane") start_replica(folder);
  sigset_t heard;
  ::sigemptyset(&heard);
  ::sigaddset(&heard, SIGTERM);
  ::sigprocmask(SIG_BLOCK, &heard, nullptr);
  const FileDescriptor signals(::signalfd(-1, &heard, SFD_CLOEXEC));
  const std::string body = fmt::format("{} {}", name, ::getpid());
  const std::string answer =
      fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}", body.size(), body);
  for (;;) {
    pollfd waits[2] = {{.fd = *listener, .events = POLLIN, .revents = 0},
                       {.fd = signals.get(), .events = POLLIN, .revents = 0}};
    ::poll(waits, 2, -1);
    if (waits[1].revents != 0) break;
    const FileDescriptor client(::accept4(*listener, nullptr, nullptr, SOCK_CLOEXEC));
    char request[4096];
    if (client && ::read(client.get(), request, sizeof request) > 0)
      (void)!::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
  }
  note(folder, fmt::format("drain {} {}", name, supervisor_is_gone() ? "alone" : "told"));
  if (supervisor_is_gone()) ::close(*listener);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  note(folder, fmt::format("end {}", name));
  return 0;
}

}  // namespace neutrino::cloud::testing
