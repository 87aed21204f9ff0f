#include "store/testing/postgres_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <libpq-fe.h>
#include <pwd.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "base/limits.h"
#include "store/connection.h"

namespace neutrino::store::testing {
namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

const std::string kPrograms = "/usr/lib/postgresql/15/bin/";  // where Debian puts them

int free_port() {
  const FileDescriptor listener(socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
  socklen_t size = sizeof address;
  if (bind(listener.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0)
    throw system_error("find a free port", "127.0.0.1");
  return ntohs(address.sin_port);
}

std::vector<std::string> as_server_user(std::vector<std::string> command) {
  if (geteuid() != 0) return command;
  std::vector<std::string> prefix{"setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups",
                                  "--pdeathsig=QUIT"};
  prefix.insert(prefix.end(), command.begin(), command.end());
  return prefix;
}

ProcessIdentity start_program(const fs::path& folder, std::vector<std::string> command) {
  const fs::path log = folder / "log";
  const FileDescriptor output(open(log.c_str(), O_CREAT | O_WRONLY | O_APPEND | O_CLOEXEC, 0666));
  return spawn({.argv = as_server_user(std::move(command)),
                .working_directory = folder,
                .output = output.get(),
                .error = output.get(),
                .parent_death_signal = SIGQUIT});
}

void pause() { std::this_thread::sleep_for(std::chrono::milliseconds(10)); }

}  // namespace

PostgresServer::PostgresServer() {
  std::string pattern = (fs::temp_directory_path() / "neutrino-postgres-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw system_error("create", pattern);
  folder_ = pattern;
  if (const passwd* user = geteuid() == 0 ? getpwnam("postgres") : nullptr)
    if (chown(folder_.c_str(), user->pw_uid, user->pw_gid) != 0)
      throw system_error("change the owner of", folder_);
  const ProcessIdentity maker =
      start_program(folder_, {kPrograms + "initdb", "-D", "data", "-A", "trust", "-U", "test", "--no-sync",
                              "-E", "UTF8", "--locale=C.UTF-8"});
  const ExitStatus status = wait_for(maker.pid);
  if (status != ExitStatus{})
    throw make_error(ErrorCode::internal, "initdb ended with {}: {}", exit_text(status),
                     read_file(folder_ / "log", 1 << 20));
  start();
}

PostgresServer::~PostgresServer() {
  if (is_running(postmaster_)) signal_process(postmaster_, SIGCONT);
  if (is_running(postmaster_)) signal_process(postmaster_, SIGQUIT);
  if (postmaster_.pid != 0) wait_for(postmaster_.pid);
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

PostgresServer& PostgresServer::shared() {
  static PostgresServer server;
  return server;
}

// A killed server's processes may take a moment to go, and its memory and lock file with them; so it is started until it stays.
void PostgresServer::start() {
  if (port_ == 0) port_ = free_port();
  const std::string address = fmt::format("host=127.0.0.1 port={} user=test dbname=postgres", port_);
  const auto deadline = steady_clock::now() + std::chrono::seconds(300);  // on a busy machine
  postmaster_ = {};
  while (steady_clock::now() < deadline) {
    if (postmaster_.pid == 0 || try_wait(postmaster_.pid))
      postmaster_ = start_program(
          folder_, {kPrograms + "postgres", "-D", "data", "-p", fmt::to_string(port_), "-h", "127.0.0.1",
                    "-k", folder_.string(), "-c", "shared_buffers=16MB", "-c", "max_connections=40", "-c",
                    "autovacuum=off", "-c", "restart_after_crash=on", "-c", "fsync=off"});
    if (PQping(address.c_str()) == PQPING_OK) return;
    pause();
  }
  throw make_error(ErrorCode::internal, "PostgreSQL did not start: {}", read_file(folder_ / "log", 16 << 20));
}

std::string PostgresServer::url(std::string_view schema) {
  const std::string base = fmt::format("postgres://test@127.0.0.1:{}/postgres", port_);
  const auto connection = connect({.url = base});
  connection->define(fmt::format("CREATE SCHEMA IF NOT EXISTS {}", schema));
  return fmt::format("{}?options=-csearch_path%3D{}", base, schema);
}

std::vector<ProcessIdentity> PostgresServer::children() const {
  std::vector<ProcessIdentity> found;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const int pid = std::atoi(entry.path().filename().c_str());
    std::error_code ignored;
    if (pid <= 0 || !fs::exists(entry.path() / "stat", ignored)) continue;
    try {
      const auto stat = parse_process_stat(read_file(entry.path() / "stat", limits::kProcessStatBytes));
      if (stat && stat->parent == postmaster_.pid) found.push_back({stat->pid, stat->start_ticks});
    } catch (const Error&) {  // it has ended meanwhile
    }
  }
  return found;
}

void PostgresServer::signal_all(int signal) {
  const std::vector<ProcessIdentity> others = children();
  signal_process(postmaster_, signal);
  for (const ProcessIdentity& process : others) signal_process(process, signal);
}

void PostgresServer::kill_all() {
  signal_all(SIGKILL);
  wait_for(postmaster_.pid);
  postmaster_ = {};
}

void PostgresServer::stop_answering() { signal_all(SIGSTOP); }
void PostgresServer::answer_again() { signal_all(SIGCONT); }

void PostgresServer::kill_one(Random& random) {
  std::vector<ProcessIdentity> serving;
  for (const ProcessIdentity& process : children()) {
    try {
      const std::string title = read_file(fmt::format("/proc/{}/cmdline", process.pid), 4096);
      if (title.find("postgres: test") != std::string::npos) serving.push_back(process);
    } catch (const Error&) {  // it has ended meanwhile
    }
  }
  if (!serving.empty())
    signal_process(serving[static_cast<size_t>(random.below(std::ssize(serving)))], SIGKILL);
}

}  // namespace neutrino::store::testing
