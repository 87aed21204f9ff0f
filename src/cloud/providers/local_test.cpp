// Real replicas of the local provider: shells, and the test's own (testing/programs.h).
#include "cloud/providers/local.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <set>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"
#include "base/testing/temporary_folder.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr milliseconds kSoon{10};
constexpr milliseconds kLongGrace{120'000};  // longer than any test

std::string ask(int port) {  // empty: nobody answers
  const FileDescriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = ::inet_addr("127.0.0.1");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return {};
  write_all(fd.get(), "GET / HTTP/1.1\r\n\r\n", "a replica");
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(fd.get(), buffer, sizeof buffer)) > 0;)
    answer.append(buffer, static_cast<size_t>(got));
  return answer;
}

class Local : public ::testing::Test {
 protected:
  Local() { provider_ = make(); }
  ~Local() override {  // a failed test leaves nothing behind either
    for (const ObservedReplica& replica : provider_->observe())
      provider_->stop(replica.id, replica.generation, milliseconds(0));
    eventually([&] {
      return std::ranges::all_of(provider_->observe(),
                                 [](const auto& r) { return r.phase == ReplicaPhase::exited; });
    });
  }

  ProviderOptions options() const {
    return {.folder = folder_.path() / "replicas",
            .keeper_command = testing::program("keeper"),
            .environment = harmless_environment(),
            .kernel_table = "amx",
            .memory_bytes_per_second = 2e10,
            .log_file_bytes = 4096,
            .log_files = 3};
  }
  std::unique_ptr<LocalProvider> make() const { return std::make_unique<LocalProvider>(options()); }

  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 6000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(kSoon);
    }
    return false;
  }

  ObservedReplica see(const std::string& id) {
    for (const ObservedReplica& replica : provider_->observe())
      if (replica.id == id) return replica;
    return {.phase = ReplicaPhase::unknown};
  }

  ObservedReplica wait(const std::string& id, ReplicaPhase phase) {
    ObservedReplica replica;
    EXPECT_TRUE(eventually([&] { return (replica = see(id)).phase == phase; }))
        << id << " is " << phase_name(replica.phase) << ": " << replica.message;
    return replica;
  }

  ReplicaSpec server(const std::string& id, int64_t generation = 1) {
    ReplicaSpec spec{.id = id, .generation = generation, .command = testing::program("replica")};
    spec.command.insert(spec.command.end(), {"{port}", (folder_.path() / "journal").string()});
    return spec;
  }
  ReplicaSpec shell(const std::string& id, const std::string& script) {
    return {.id = id, .generation = 1, .command = {"sh", "-c", script}};
  }

  std::string log(const std::string& id) {
    std::string text;
    for (int64_t cursor = 0;;) {
      const LogChunk chunk = provider_->read_log(id, cursor, 1 << 20);
      if (chunk.next == cursor) return text;
      text += chunk.text;
      cursor = chunk.next;
    }
  }

  std::vector<ProcessIdentity> processes_of(const std::string& id) const {
    return find_by_environment(ReplicaFolder(folder_.path() / "replicas" / id).mark());
  }
  std::optional<ProcessIdentity> keeper_of(const std::string& id) const {
    return ReplicaFolder(folder_.path() / "replicas" / id).keeper();
  }
  int64_t starts() const {
    std::error_code missing;
    if (!fs::exists(folder_.path() / "journal", missing)) return 0;
    const std::string journal = read_file(folder_.path() / "journal", 1 << 20);
    return std::count(journal.begin(), journal.end(), '\n');
  }

  TemporaryFolder folder_;
  std::unique_ptr<LocalProvider> provider_;
};

TEST_F(Local, starts_serves_stops_and_is_forgotten) {
  provider_->start(server("r1"));
  const ObservedReplica running = wait("r1", ReplicaPhase::running);
  EXPECT_EQ(running.generation, 1);
  EXPECT_EQ(running.host, "127.0.0.1");
  EXPECT_EQ(running.node, "local");
  EXPECT_GT(running.started_at_ms, SystemClock().unix_ms() - 600'000);
  EXPECT_EQ(running.finished_at_ms, 0);
  EXPECT_TRUE(eventually([&] { return ask(running.port).find("replicas/r1") != std::string::npos; }));
  EXPECT_THROW(provider_->remove("r1"), Error);
  provider_->stop("r1", kAnyGeneration, kLongGrace);
  const ObservedReplica over = wait("r1", ReplicaPhase::exited);
  EXPECT_EQ(over.reason, Reason::stopped);
  EXPECT_EQ(over.exit_signal, SIGTERM);
  EXPECT_GE(over.finished_at_ms, running.started_at_ms);
  EXPECT_EQ(ask(running.port), "");
  provider_->remove("r1");
  EXPECT_THAT(provider_->observe(), IsEmpty());
  provider_->remove("r1");
  provider_->stop("r1", kAnyGeneration, kLongGrace);
}

TEST_F(Local, a_generation_runs_once_whatever_is_said_twice) {
  for (int i = 0; i < 5; ++i) provider_->start(server("r1"));
  const ObservedReplica first = wait("r1", ReplicaPhase::running);
  EXPECT_TRUE(eventually([&] { return starts() == 1; }));
  auto second = make();
  second->start(server("r1"));
  EXPECT_THAT([&] { second->start(server("r1", 2)); },
              ::testing::ThrowsMessage<Error>(HasSubstr("still runs as generation 1")));
  provider_->stop("r1", kAnyGeneration, kLongGrace);
  wait("r1", ReplicaPhase::exited);
  provider_->start(server("r1"));  // late
  EXPECT_EQ(see("r1").phase, ReplicaPhase::exited);
  provider_->start(server("r1", 2));
  wait("r1", ReplicaPhase::running);
  provider_->start(server("r1", 1));  // very late
  provider_->stop("r1", 1, milliseconds(0));
  EXPECT_TRUE(eventually([&] { return starts() == 2; }));
  EXPECT_EQ(see("r1").generation, 2);
  EXPECT_THAT(processes_of("r1"), SizeIs(1));
}

TEST_F(Local, a_stop_that_comes_before_the_start_wins) {
  provider_->start(shell("r1", "exit 1"));
  wait("r1", ReplicaPhase::exited);
  const ReplicaFolder folder(folder_.path() / "replicas" / "r1");
  folder.write(SpecRecord{
      .id = "r1", .generation = 2, .command = {"true"}, .node = "local"});  // killed behind this line
  EXPECT_EQ(see("r1").phase, ReplicaPhase::accepted);
  provider_->stop("r1", kAnyGeneration, kLongGrace);
  EXPECT_EQ(see("r1").phase, ReplicaPhase::exited);
  EXPECT_EQ(see("r1").reason, Reason::stopped);
  provider_->start(server("r1", 2));
  EXPECT_EQ(see("r1").phase, ReplicaPhase::exited);
  EXPECT_EQ(starts(), 0);
}

TEST_F(Local, who_ignores_sigterm_is_killed_after_the_grace_and_a_shorter_one_counts) {
  provider_->start(shell("r1", "trap '' TERM; echo deaf; while true; do sleep 1; done"));
  EXPECT_TRUE(eventually([&] { return log("r1") == "deaf\n"; }));
  provider_->stop("r1", kAnyGeneration, kLongGrace);
  EXPECT_EQ(see("r1").phase, ReplicaPhase::stopping);
  provider_->stop("r1", kAnyGeneration, milliseconds(100));
  const ObservedReplica over = wait("r1", ReplicaPhase::exited);
  EXPECT_EQ(over.exit_signal, SIGKILL);
  EXPECT_EQ(over.reason, Reason::stopped);
  EXPECT_THAT(over.message, HasSubstr("after its grace"));
}

TEST_F(Local, the_end_is_told_in_words) {
  struct Case {
    std::string script;
    Reason reason;
    std::string message;
  };
  const Case cases[] = {
      {"exit 0", Reason::completed, "exit code 0"},
      {"echo one; echo 'the model is not there' >&2; exit 1", Reason::crashed,
       "exit code 1: the model is not there"},
      {"exit 2", Reason::config_error, "exit code 2"},
      {"kill -SEGV $$", Reason::crashed, "signal 11 (Segmentation fault)"},
      {"kill -KILL $$", Reason::crashed, "signal 9 (Killed)"},
  };
  int number = 0;
  for (const Case& c : cases) {
    const std::string id = fmt::format("r{}", ++number);
    provider_->start(shell(id, c.script));
    const ObservedReplica over = wait(id, ReplicaPhase::exited);
    EXPECT_EQ(over.reason, c.reason) << c.script << ": " << reason_name(over.reason);
    EXPECT_EQ(over.message, c.message);
    EXPECT_NE(over.exit_code.has_value(), over.exit_signal.has_value());
  }
  provider_->start({.id = "none", .command = {"/no/such/program"}});
  const ObservedReplica none = wait("none", ReplicaPhase::exited);
  EXPECT_EQ(none.reason, Reason::config_error);
  EXPECT_THAT(none.message, HasSubstr("/no/such/program"));
}

TEST_F(Local, refuses_what_cannot_be_a_replica) {
  const ReplicaSpec bad[] = {
      {.id = "", .command = {"true"}},
      {.id = "../x", .command = {"true"}},
      {.id = "A", .command = {"true"}},
      {.id = "-a", .command = {"true"}},
      {.id = std::string(64, 'a'), .command = {"true"}},
      {.id = "a", .command = {}},
      {.id = "a", .generation = 0, .command = {"true"}},
      {.id = "a", .command = {"true"}, .memory_bytes = -1},
      {.id = "a", .command = {"true"}, .cores = -1},
      {.id = "a", .command = {"true"}, .environment = {"=x"}},
      {.id = "a", .command = {std::string("a\0b", 3)}},
      {.id = "a", .command = {"true"}, .environment = {"x"}},
      {.id = "a", .command = {"true"}, .stop_grace_ms = -1},
  };
  for (const ReplicaSpec& spec : bad) EXPECT_THROW(provider_->start(spec), Error) << spec.id;
  EXPECT_THROW(provider_->stop("../x", kAnyGeneration, kLongGrace), Error);
  EXPECT_THROW(provider_->read_log("../x", 0, 10), Error);
  EXPECT_THROW(provider_->read_log("nobody", 0, 10), Error);
  EXPECT_THAT(provider_->observe(), IsEmpty());
}

TEST_F(Local, a_replica_outlives_the_process_that_started_it_and_its_end_is_known) {
  const pid_t control_plane = ::fork();
  if (control_plane == 0) {
    make()->start(shell("r1", "trap 'exit 7' TERM; echo up; while true; do sleep 0.1; done"));
    ::pause();
  }
  EXPECT_TRUE(eventually([&] { return see("r1").phase == ReplicaPhase::running && log("r1") == "up\n"; }));
  ::kill(control_plane, SIGKILL);
  ::waitpid(control_plane, nullptr, 0);
  provider_ = make();
  EXPECT_EQ(see("r1").phase, ReplicaPhase::running);
  const auto process = processes_of("r1");
  ASSERT_FALSE(process.empty());
  provider_->stop("r1", kAnyGeneration, kLongGrace);
  const ObservedReplica over = wait("r1", ReplicaPhase::exited);
  EXPECT_EQ(over.exit_code, 7);  // known, though its parent's parent is gone
  EXPECT_THAT(processes_of("r1"), IsEmpty());
}

TEST_F(Local, a_killed_keeper_takes_its_replica_along_and_nothing_is_left) {
  provider_->start(shell("r1", "setsid sleep 1000 & sleep 1000 & echo up; wait"));
  EXPECT_TRUE(eventually([&] { return see("r1").phase == ReplicaPhase::running && log("r1") == "up\n"; }));
  EXPECT_TRUE(eventually([&] { return processes_of("r1").size() == 3; }));
  const auto keeper = keeper_of("r1");
  ASSERT_TRUE(keeper.has_value());
  signal_process(*keeper, SIGKILL);
  const ObservedReplica over = wait("r1", ReplicaPhase::exited);
  EXPECT_EQ(over.reason, Reason::system_error);
  EXPECT_THAT(over.message, HasSubstr("keeper"));
  EXPECT_THAT(processes_of("r1"), IsEmpty());
  provider_->start(shell("r1", "echo again"));
  EXPECT_EQ(see("r1").phase, ReplicaPhase::exited);  // the same generation is never begun again
}

TEST_F(Local, a_keeper_that_is_told_to_end_ends_its_replica) {
  ReplicaSpec spec = shell("r1", "echo up; sleep 1000");
  provider_->start(spec);
  EXPECT_TRUE(eventually([&] { return log("r1") == "up\n"; }));
  signal_process(*keeper_of("r1"), SIGTERM);
  EXPECT_EQ(wait("r1", ReplicaPhase::exited).reason, Reason::stopped);
}

// A status that says "runs", of a time before the machine restarted: its pids are other people's now.
TEST_F(Local, pids_in_files_are_not_believed) {
  const ProcessIdentity stranger = spawn({.argv = {"sleep", "1000"}});
  const ReplicaFolder folder(folder_.path() / "replicas" / "r1");
  fs::create_directory(folder.path());
  folder.write(SpecRecord{.id = "r1", .generation = 1, .command = {"sleep", "1000"}});
  folder.write(StatusRecord{.generation = 1,
                            .phase = "running",
                            .reason = "InProgress",
                            .pid = stranger.pid,
                            .start_ticks = stranger.start_ticks});
  EXPECT_EQ(see("r1").phase, ReplicaPhase::exited);
  provider_->stop("r1", kAnyGeneration, milliseconds(0));
  provider_->remove("r1");
  EXPECT_TRUE(is_running(stranger));
  signal_process(stranger, SIGKILL);
  wait_for(stranger.pid);
}

TEST_F(Local, damaged_files_are_as_none) {
  provider_->start(server("r1"));
  wait("r1", ReplicaPhase::running);
  const fs::path spec = folder_.path() / "replicas/r1/spec.json";
  const std::string good = read_file(spec, 1 << 20);
  for (const char* text : {"", "{", "[]", "{\"generation\":\"x\"}", "null"}) {
    write_file_atomic(spec, text);
    EXPECT_NO_THROW(provider_->observe()) << text;
  }
  write_file_atomic(spec, good);
  EXPECT_EQ(see("r1").phase, ReplicaPhase::running);
}

TEST_F(Local, grandchildren_in_sessions_of_their_own_end_with_their_replica) {
  provider_->start(shell("r1",
                         "bomb() { for i in 1 2 3 4 5 6 7 8; do (setsid sh -c 'sleep 1000 & setsid sleep "
                         "1000' & sleep 1000) & done; }; "
                         "bomb; bomb; echo up; wait"));
  EXPECT_TRUE(eventually([&] { return processes_of("r1").size() >= 60; }));
  provider_->stop("r1", kAnyGeneration, milliseconds(0));
  wait("r1", ReplicaPhase::exited);
  EXPECT_THAT(processes_of("r1"), IsEmpty());
}

TEST_F(Local, what_a_replica_left_behind_ends_when_it_ends_by_itself) {
  provider_->start(shell("r1", "setsid sleep 1000 & sleep 1000 & exit 0"));
  EXPECT_EQ(wait("r1", ReplicaPhase::exited).reason, Reason::completed);
  EXPECT_THAT(processes_of("r1"), IsEmpty());
}

TEST_F(Local, every_replica_has_a_port_of_its_own) {
  constexpr int kReplicas = 24;
  for (int i = 0; i < kReplicas; ++i) provider_->start(server(fmt::format("r{}", i)));
  std::set<int> ports;
  for (int i = 0; i < kReplicas; ++i) {
    const std::string id = fmt::format("r{}", i);
    const ObservedReplica replica = wait(id, ReplicaPhase::running);
    ports.insert(replica.port);
    EXPECT_TRUE(eventually([&] { return ask(replica.port).ends_with("replicas/" + id); }));
  }
  EXPECT_THAT(ports, SizeIs(kReplicas));
}

// Between the choice of a port and the replica's listen() nobody else gets it, though the whole machine looks for ports.
TEST_F(Local, a_port_is_reserved_while_its_replica_is_slow_to_listen) {
  ReplicaSpec spec = shell("r1", "sleep 1; exec \"$0\" replica $PORT");
  spec.command.push_back(testing::test_binary().string());
  provider_->start(spec);
  const int port = wait("r1", ReplicaPhase::running).port;
  const auto bound =
      [](int wanted) {  // what a bind() without SO_REUSEADDR makes of it, as the search for a free port does
        const FileDescriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<uint16_t>(wanted));
        address.sin_addr.s_addr = ::inet_addr("127.0.0.1");
        socklen_t size = sizeof address;
        if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0) return -errno;
        ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
        return static_cast<int>(ntohs(address.sin_port));
      };
  for (int i = 0; i < 300; ++i) ASSERT_NE(bound(0), port);
  EXPECT_EQ(bound(port), -EADDRINUSE);
  EXPECT_TRUE(eventually([&] { return ask(port).ends_with("replicas/r1"); }));
}

TEST_F(Local, the_environment_arrives_and_is_nowhere_on_disk) {
  ::setenv("NEUTRINO_TEST_CONTROL_PLANE_SECRET", "not for replicas", 1);
  ReplicaSpec spec =
      shell("r1", "test ${#TOKEN} = 18 && test $HOME = /elsewhere && env | cut -d= -f1; sleep 1000");
  spec.environment = {"TOKEN=s3cret-of-a-tenant", "HOME=/elsewhere"};
  provider_->start(spec);
  EXPECT_TRUE(eventually([&] { return log("r1").find("TOKEN\n") != std::string::npos; }));
  EXPECT_THAT(log("r1"), AllOf(HasSubstr("PORT\n"), HasSubstr("NEUTRINO_GENERATION\n"),
                               Not(HasSubstr("CONTROL_PLANE"))));
  for (const auto& entry : fs::recursive_directory_iterator(folder_.path())) {
    const std::string content = entry.is_regular_file() ? read_file(entry.path(), 1 << 20) : "";
    EXPECT_THAT(content, Not(HasSubstr("s3cret"))) << entry.path();
    EXPECT_EQ(entry.status().permissions() & fs::perms::others_all, fs::perms::none) << entry.path();
  }
  EXPECT_THAT(read_file(fmt::format("/proc/{}/environ", keeper_of("r1")->pid), 1 << 20),
              Not(HasSubstr("s3cret")));
}

TEST_F(Local, output_is_followed_through_rotation) {
  provider_->start(shell("r1", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"));
  std::string seen;
  int64_t cursor = 0, lost = 0;
  bool over = false;
  for (bool last = false; !last;) {
    last = over;
    over = see("r1").phase == ReplicaPhase::exited;
    for (;;) {
      const LogChunk chunk = provider_->read_log("r1", cursor, 1 << 20);
      if (chunk.next == cursor) break;
      seen += chunk.text;
      lost += chunk.lost_bytes;
      cursor = chunk.next;
    }
  }
  std::string expected;
  for (int i = 0; i < 3000; ++i) expected += fmt::format("line {}\n", i);
  EXPECT_EQ(static_cast<size_t>(cursor), expected.size());
  EXPECT_EQ(lost + static_cast<int64_t>(seen.size()),
            cursor);  // a reader may be too slow for 3 files of 4 KiB, and knows
  EXPECT_TRUE(expected.find(provider_->read_log("r1", -2000, 1 << 20).text) >= expected.size() - 2000);
  EXPECT_EQ(
      std::distance(fs::directory_iterator(folder_.path() / "replicas/r1/log"), fs::directory_iterator()), 3);
}

// A limit on the size of files stands for a full disk; it needs no rights, and it can be taken back.
TEST_F(Local, a_full_disk_does_not_stop_a_replica) {
  ReplicaSpec spec =
      shell("r1", "while true; do for i in 1 2 3 4 5 6 7 8 9; do echo 0123456789; done; sleep 0.002; done");
  auto options = this->options();
  options.log_file_bytes = 1 << 20;
  provider_ = std::make_unique<LocalProvider>(options);
  provider_->start(spec);
  EXPECT_TRUE(
      eventually([&] { return see("r1").phase == ReplicaPhase::running && log("r1").size() > 5000; }));
  const rlimit full{.rlim_cur = 4096, .rlim_max = RLIM_INFINITY},
      free{.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
  const pid_t keeper = keeper_of("r1")->pid;
  ASSERT_EQ(::prlimit(keeper, RLIMIT_FSIZE, &full, nullptr), 0);
  std::this_thread::sleep_for(milliseconds(20));
  const size_t size = log("r1").size();
  std::this_thread::sleep_for(milliseconds(300));
  EXPECT_EQ(log("r1").size(), size);
  EXPECT_EQ(see("r1").phase, ReplicaPhase::running);
  ASSERT_EQ(::prlimit(keeper, RLIMIT_FSIZE, &free, nullptr), 0);
  EXPECT_TRUE(eventually([&] { return log("r1").size() > size + 500; }));
  EXPECT_THAT(log("r1"), HasSubstr("bytes of output could not be kept: File too large]\n0123456789\n"));
  EXPECT_EQ(see("r1").phase, ReplicaPhase::running);
}

TEST_F(Local, who_takes_more_memory_than_its_limit_is_ended_alone_or_the_note_says_why_not) {
  ReplicaSpec spec =
      shell("r1", "echo up; read wait < \"$FIFO\"; x=$(head -c 400M /dev/zero | tr '\\0' x); echo ${#x}");
  spec.environment = {"FIFO=" + (folder_.path() / "go").string()};
  spec.memory_bytes = 64 << 20;
  spec.cores = 0.5;
  ASSERT_EQ(::mkfifo((folder_.path() / "go").c_str(), 0600), 0);
  provider_->start(spec);
  EXPECT_TRUE(eventually([&] { return log("r1") == "up\n"; }));
  const std::string note = see("r1").limits_note;
  if (note.empty()) {
    const FileDescriptor go(::open((folder_.path() / "go").c_str(), O_WRONLY | O_CLOEXEC));
    write_all(go.get(), "\n", "a fifo");
    const ObservedReplica over = wait("r1", ReplicaPhase::exited);
    EXPECT_EQ(over.reason, Reason::out_of_memory) << reason_name(over.reason) << " " << over.message;
    EXPECT_EQ(over.message, "needed more than its limit of 64.0 MiB");
  } else {
    EXPECT_THAT(note, StartsWith("no limit"));
    provider_->stop("r1", kAnyGeneration, milliseconds(0));
    wait("r1", ReplicaPhase::exited);
  }
  const auto status = ReplicaFolder(folder_.path() / "replicas/r1").status();
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(status->control_groups.empty(),
            note.find("no limits:") == 0 || std::count(note.begin(), note.end(), ';') == 2);
  for (const std::string& group : status->control_groups) EXPECT_FALSE(fs::exists(group)) << group;
}

// Figures for a quiet machine; the limits are for any.
TEST_F(Local, starts_and_starts_again_quickly) {
  constexpr int kRounds = 10;
  std::vector<int64_t> running_ms, answering_ms, again_ms;
  const auto now_ms = [] { return SystemClock().now_ns() / 1'000'000; };
  const auto wait_quickly = [&](const std::string& id, int64_t generation, ReplicaPhase phase) {
    for (;;) {
      const ObservedReplica replica = see(id);
      if (replica.generation == generation && replica.phase == phase) return replica.port;
      std::this_thread::sleep_for(std::chrono::microseconds(300));
    }
  };
  for (int i = 0; i < kRounds; ++i) {
    const std::string id = fmt::format("r{}", i);
    const int64_t begin_ms = now_ms();
    provider_->start(server(id));
    const int port = wait_quickly(id, 1, ReplicaPhase::running);
    running_ms.push_back(now_ms() - begin_ms);
    while (ask(port).empty()) std::this_thread::sleep_for(std::chrono::microseconds(300));
    answering_ms.push_back(now_ms() - begin_ms);
    const int64_t killed_ms = now_ms();
    signal_process(processes_of(id)[0], SIGKILL);
    wait_quickly(id, 1, ReplicaPhase::exited);
    provider_->start(server(id, 2));
    wait_quickly(id, 2, ReplicaPhase::running);
    again_ms.push_back(now_ms() - killed_ms);
    provider_->stop(id, 2, milliseconds(0));
  }
  for (auto* figures : {&running_ms, &answering_ms, &again_ms}) std::sort(figures->begin(), figures->end());
  std::printf(
      "[ measured ] start to running: median %ld ms; to the first answer: %ld ms; kill -9 to running again: "
      "%ld ms\n",
      running_ms[kRounds / 2], answering_ms[kRounds / 2], again_ms[kRounds / 2]);
  EXPECT_LT(running_ms[kRounds / 2], 1500);
  EXPECT_LT(again_ms[kRounds / 2], 3000);
}

TEST_F(Local, tells_what_this_machine_has) {
  const auto nodes = provider_->nodes();
  ASSERT_THAT(nodes, SizeIs(1));
  EXPECT_EQ(nodes[0].name, "local");
  EXPECT_EQ(nodes[0].kernel_table, "amx");
  EXPECT_EQ(nodes[0].memory_bytes_per_second, 2e10);
  EXPECT_GE(nodes[0].cores, 1);
  EXPECT_GT(nodes[0].memory_available_bytes, 0);
  EXPECT_LE(nodes[0].memory_available_bytes, nodes[0].memory_bytes);
}

TEST(Providers, are_a_table) {
  TemporaryFolder folder;
  EXPECT_EQ(make_provider("local", {.folder = folder.path(), .keeper_command = {"true"}})->name(), "local");
  EXPECT_THAT([&] { make_provider("cloud9", {}); },
              ::testing::ThrowsMessage<Error>(HasSubstr("must be one of: local; got \"cloud9\"")));
  for (int i = 0; i <= static_cast<int>(Reason::unknown); ++i)
    EXPECT_EQ(find_reason(reason_name(static_cast<Reason>(i))), static_cast<Reason>(i));
  EXPECT_EQ(find_reason("none of ours"), std::nullopt);
}

}  // namespace
}  // namespace neutrino::cloud
