// Real processes: the shell and its children.
#include "base/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "base/error.h"

namespace neutrino {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

struct Pipe {
  FileDescriptor read, write;
  Pipe() {
    int ends[2];
    check(::pipe2(ends, O_CLOEXEC) == 0);
    read = FileDescriptor(ends[0]);
    write = FileDescriptor(ends[1]);
  }
  std::string text() {  // until every writer is gone
    write = FileDescriptor();
    std::string all;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(read.get(), buffer, sizeof buffer)) > 0;)
      all.append(buffer, static_cast<size_t>(got));
    return all;
  }
};

bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 3000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return false;
}

std::string output_of(SpawnOptions options) {
  Pipe pipe;
  options.output = pipe.write.get();
  const ProcessIdentity process = spawn(options);
  std::string text = pipe.text();
  EXPECT_EQ(wait_for(process.pid), ExitStatus{});
  return text;
}

SpawnOptions shell(std::string script) { return {.argv = {"sh", "-c", std::move(script)}}; }

TEST(Spawn, gives_arguments_environment_and_folder) {
  EXPECT_EQ(output_of({.argv = {"sh", "-c", "echo \"$1|$2|$A|$HOME\"; pwd", "sh", "a b", ""},
                       .environment = std::vector<std::string>{"A=x=y"},
                       .working_directory = "/usr"}),
            "a b||x=y|\n/usr\n");
}

TEST(Spawn, leaves_the_callers_environment_where_none_is_given) {
  ::setenv("NEUTRINO_SPAWN_TEST", "seen", 1);
  EXPECT_EQ(output_of(shell("echo $NEUTRINO_SPAWN_TEST")), "seen\n");
}

TEST(Spawn, closes_all_descriptors_but_those_named_and_gives_them_their_numbers) {
  const FileDescriptor leak(
      ::open("/etc/hostname", O_RDONLY));  // not close-on-exec: a mistake that must not matter
  Pipe first, second;
  SpawnOptions options = shell("echo one >&3; echo two >&4; ls /proc/self/fd");
  options.inherited = {second.write.get(), first.write.get()};
  EXPECT_EQ(output_of(options), "0\n1\n2\n3\n4\n5\n");  // 5 is ls's own
  EXPECT_EQ(second.text(), "one\n");
  EXPECT_EQ(first.text(), "two\n");
}

TEST(Spawn, numbers_of_descriptors_may_cross) {
  Pipe pipe;
  SpawnOptions options = shell("echo three >&3; echo error >&2; echo output");
  options.output = pipe.write.get();
  options.error = pipe.write.get();
  options.inherited = {pipe.write.get()};
  const ProcessIdentity process = spawn(options);
  EXPECT_EQ(pipe.text(), "three\nerror\noutput\n");
  wait_for(process.pid);
}

TEST(Spawn, says_what_is_wrong_with_a_program) {
  const auto message = [](SpawnOptions options) -> std::string {
    try {
      wait_for(spawn(options).pid);
    } catch (const Error& error) {
      return fmt::format("{}: {}", error_code_name(error.code()), error.message());
    }
    return "started";
  };
  EXPECT_THAT(message({.argv = {"no-such-program-here"}}),
              HasSubstr("not_found: the program \"no-such-program-here\""));
  EXPECT_THAT(message({.argv = {"/no/such/program"}}), HasSubstr("not_found: cannot run /no/such/program"));
  EXPECT_THAT(message({.argv = {"/dev/null"}}), HasSubstr("permission_denied: cannot run /dev/null"));
  EXPECT_THAT(message({.argv = {"true"}, .working_directory = "/no/folder"}), HasSubstr("cannot work in"));
  EXPECT_THAT(message({.argv = {"true"}, .enter = {"/no/cgroup.procs"}}), HasSubstr("control group"));
  EXPECT_THAT(message({.argv = {}}), HasSubstr("must name a program"));
  EXPECT_EQ(message({.argv = {"true"}}), "started");
}

TEST(Spawn, ignored_and_blocked_signals_are_not_passed_on) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t blocked;
  ::sigemptyset(&blocked);
  ::sigaddset(&blocked, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
  const std::string masks = output_of(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"));
  ::pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr);
  EXPECT_EQ(masks, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST(Spawn, the_pid_is_on_file_before_the_program_runs) {
  Pipe pid;
  SpawnOptions options = shell("echo $$");
  options.report_pid_to = pid.write.get();
  const std::string printed = output_of(options);
  EXPECT_EQ(pid.text(), printed);
}

TEST(Spawn, a_child_can_be_told_to_die_with_its_parent) {
  Pipe pid;
  const pid_t parent = ::fork();
  if (parent == 0) {
    const ProcessIdentity child = spawn({.argv = {"sleep", "1000"}, .parent_death_signal = SIGKILL});
    write_all(pid.write.get(), fmt::format("{} {}", child.pid, child.start_ticks), "pipe");
    ::_exit(0);
  }
  ProcessIdentity child;
  std::sscanf(pid.text().c_str(), "%d %ld", &child.pid, &child.start_ticks);
  ASSERT_GT(child.pid, 0);
  wait_for(parent);
  EXPECT_TRUE(eventually([&] { return !is_running(child); }));
}

TEST(Process, exit_codes_and_signals) {
  EXPECT_EQ(wait_for(spawn(shell("exit 7")).pid), ExitStatus{.code = 7});
  EXPECT_EQ(wait_for(spawn(shell("kill -9 $$")).pid), ExitStatus{.signal = 9});
  EXPECT_EQ(exit_text({.code = 7}), "exit code 7");
  EXPECT_EQ(exit_text({.signal = 9}), "signal 9 (Killed)");
  EXPECT_THROW(wait_for(1), Error);
  EXPECT_EQ(try_wait(1), std::nullopt);
}

TEST(Process, a_descriptor_tells_of_the_end) {
  Pipe pipe;
  SpawnOptions options = shell("read line; exit 3");
  options.input = pipe.read.get();
  const ProcessIdentity process = spawn(options);
  const FileDescriptor fd = open_pidfd(process);
  if (!fd) return;  // no pidfds here: callers look at the process instead
  pollfd wait{.fd = fd.get(), .events = POLLIN, .revents = 0};
  EXPECT_EQ(::poll(&wait, 1, 0), 0);
  EXPECT_EQ(try_wait(process.pid), std::nullopt);
  write_all(pipe.write.get(), "go\n", "pipe");
  EXPECT_EQ(::poll(&wait, 1, 30'000), 1);
  EXPECT_FALSE(is_running(process));  // a zombie does not run
  EXPECT_TRUE(identify(process.pid).has_value());
  EXPECT_EQ(wait_for(process.pid), ExitStatus{.code = 3});
  EXPECT_FALSE(identify(process.pid).has_value());
}

TEST(Process, a_reused_pid_is_somebody_else) {
  const ProcessIdentity stranger = spawn({.argv = {"sleep", "1000"}});
  const ProcessIdentity gone{.pid = stranger.pid,
                             .start_ticks = stranger.start_ticks - 1};  // had this pid before
  EXPECT_FALSE(is_running(gone));
  EXPECT_FALSE(open_pidfd(gone));
  EXPECT_FALSE(signal_process(gone, SIGKILL));
  EXPECT_FALSE(signal_group(gone, SIGKILL));
  EXPECT_TRUE(is_running(stranger));
  EXPECT_TRUE(signal_process(stranger, SIGKILL));
  EXPECT_EQ(wait_for(stranger.pid), ExitStatus{.signal = SIGKILL});
  EXPECT_FALSE(signal_process(stranger, SIGKILL));
  EXPECT_FALSE(signal_process({}, SIGKILL));  // pid 0 would be our own group
  EXPECT_FALSE(signal_group({}, SIGKILL));
}

// A tree that forks for as long as it lives: a parent of children that each start others and wait.
constexpr const char* kForkBomb =
    "bomb() { i=0; while [ $i -lt 40 ]; do (sleep 1000 & sleep 1000) & i=$((i+1)); done; wait; }; bomb";

TEST(Process, a_group_is_killed_with_all_that_it_forked) {
  SpawnOptions options = shell(kForkBomb);
  options.environment = std::vector<std::string>{"PATH=/usr/bin:/bin", "BOMB=group"};
  const ProcessIdentity leader = spawn(options);
  EXPECT_TRUE(eventually([] { return find_by_environment("BOMB=group").size() > 20; }));
  EXPECT_TRUE(signal_group(leader, SIGKILL));
  EXPECT_TRUE(eventually([] { return find_by_environment("BOMB=group").empty(); }));
  EXPECT_EQ(wait_for(leader.pid), ExitStatus{.signal = SIGKILL});
}

TEST(Process, what_left_its_group_is_found_by_who_adopts_orphans) {
  const pid_t keeper = ::fork();
  if (keeper == 0) {
    adopt_orphans();
    SpawnOptions options =
        shell("for i in 1 2 3 4 5; do setsid sh -c 'setsid sleep 1000 & exec sleep 1000' & done; sleep 0.2");
    options.environment = std::vector<std::string>{"PATH=/usr/bin:/bin", "BOMB=sessions"};
    wait_for(spawn(options).pid);
    const size_t before = find_by_environment("BOMB=sessions").size();
    const int64_t left = kill_descendants(20'000);
    ::_exit(before == 10 && left == 0 && find_by_environment("BOMB=sessions").empty() ? 0 : 1);
  }
  EXPECT_EQ(wait_for(keeper), ExitStatus{});
  EXPECT_THAT(find_by_environment("BOMB=sessions"), IsEmpty());
}

TEST(Process, one_descendant_may_be_spared) {
  const pid_t keeper = ::fork();
  if (keeper == 0) {
    adopt_orphans();
    const ProcessIdentity spared = spawn({.argv = {"sleep", "1000"}}),
                          other = spawn({.argv = {"sleep", "1000"}});
    const bool good = kill_descendants(20'000, spared.pid) == 0 && is_running(spared) && !is_running(other);
    kill_descendants(20'000);
    ::_exit(good ? 0 : 1);
  }
  EXPECT_EQ(wait_for(keeper), ExitStatus{});
}

TEST(Process, is_found_by_one_whole_entry_of_its_environment) {
  SpawnOptions options{.argv = {"sleep", "1000"}};
  options.environment = std::vector<std::string>{"MARK=a/b#1", "MARK2=c"};
  const ProcessIdentity process = spawn(options);
  // The kernel shows a program's environment a moment after it has begun to run.
  for (int wait_ms = 0; find_by_environment("MARK=a/b#1").empty() && wait_ms < 10'000; ++wait_ms)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  EXPECT_THAT(find_by_environment("MARK=a/b#1"), ElementsAre(process));
  EXPECT_THAT(find_by_environment("MARK=a/b#"), IsEmpty());
  EXPECT_THAT(find_by_environment("MARK2=c"), ElementsAre(process));
  signal_process(process, SIGKILL);
  wait_for(process.pid);
  EXPECT_THAT(find_by_environment("MARK=a/b#1"), IsEmpty());
}

TEST(ProcessStat, table) {
  const std::string tail = " 12 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 1 2";
  struct Case {
    std::string text;
    std::optional<int64_t> start;
  };
  const Case cases[] = {
      {"12 (sleep) S 1 12" + tail, 777},
      {"12 (a b) S 1 (c)) Z 1 12" + tail, 777},  // a program may choose its name
      {"12 (sleep) S 1", std::nullopt},
      {"12 sleep S 1 12" + tail, std::nullopt},
      {"x (sleep) S 1 12" + tail, std::nullopt},
      {"12 (sleep) S 99999999999 12" + tail, std::nullopt},
      {"", std::nullopt},
      {") (", std::nullopt},
  };
  for (const Case& c : cases) {
    const auto stat = parse_process_stat(c.text);
    EXPECT_EQ(stat.has_value(), c.start.has_value()) << c.text;
    EXPECT_EQ(stat ? stat->start_ticks : -1, c.start.value_or(-1)) << c.text;
  }
  const ProcessIdentity self = this_process();
  EXPECT_EQ(self.pid, ::getpid());
  EXPECT_GT(self.start_ticks, 0);
  EXPECT_TRUE(is_running(self));
}

}  // namespace
}  // namespace neutrino
