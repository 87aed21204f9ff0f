// The supervisor with real children (testing/supervised_test.cpp) and a real replica.
#include "cloud/supervisor.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "base/clock.h"
#include "base/error.h"
#include "base/process.h"
#include "base/random.h"
#include "base/testing/temporary_folder.h"
#include "cloud/providers/local.h"
#include "cloud/testing/programs.h"

namespace neutrino::cloud {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// The body of an answer, or what went wrong: "refused", "closed".
std::string ask(int port) {
  const FileDescriptor fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = ::inet_addr("127.0.0.1");
  if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return errno == ECONNREFUSED ? "refused" : "closed";
  constexpr std::string_view kRequest = "GET / HTTP/1.1\r\n\r\n";
  if (::send(fd.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) < 0) return "closed";
  std::string answer;
  char buffer[4096];
  for (ssize_t got = 0; (got = ::read(fd.get(), buffer, sizeof buffer)) > 0;)
    answer.append(buffer, static_cast<size_t>(got));
  const size_t end = answer.find("\r\n\r\n");
  return end == answer.npos ? "closed" : answer.substr(end + 4);
}

class SupervisorTest : public ::testing::Test {
 protected:
  ~SupervisorTest() override {
    if (supervisor_.pid != 0) stop();
    LocalProvider provider({.folder = folder_.path() / "replicas", .keeper_command = {"true"}});
    for (const ObservedReplica& replica : provider.observe())
      provider.stop(replica.id, replica.generation, milliseconds(0));
    eventually([&] {
      const auto replicas = provider.observe();
      return std::all_of(replicas.begin(), replicas.end(),
                         [](const auto& r) { return r.phase == ReplicaPhase::exited; });
    });
  }

  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 12'000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(5));
    }
    return false;
  }

  void start() {
    std::error_code ignored;
    fs::remove(folder_.path() / "ports", ignored);
    SpawnOptions options{.argv = testing::program("supervisor"), .group = ProcessGroup::session};
    options.argv.insert(options.argv.end(), {folder_.path().string(), std::to_string(port_)});
    supervisor_ = spawn(options);
    ASSERT_TRUE(eventually([&] { return fs::exists(folder_.path() / "ports"); }));
    std::istringstream(read_file(folder_.path() / "ports", 100)) >> port_ >> control_port_;
    ASSERT_TRUE(eventually([&] { return pid_of("gateway") != 0 && pid_of("control-plane") != 0; }));
  }
  ExitStatus stop(int signal = SIGTERM) {
    signal_process(supervisor_, signal);
    const ExitStatus status = wait_for(supervisor_.pid);
    supervisor_ = {};
    return status;
  }

  std::string journal() const {
    std::error_code ignored;
    return fs::exists(folder_.path() / "journal", ignored) ? read_file(folder_.path() / "journal", 1 << 20)
                                                           : "";
  }
  // Of the child that answers; 0: none does.
  pid_t pid_of(const std::string& child) const {
    const std::string answer = ask(child == "gateway" ? port_ : control_port_);
    return answer.starts_with(child + " ") ? std::atoi(answer.c_str() + child.size() + 1) : 0;
  }
  ObservedReplica replica() const {
    LocalProvider provider({.folder = folder_.path() / "replicas", .keeper_command = {"true"}});
    const auto replicas = provider.observe();
    return replicas.size() == 1 ? replicas[0] : ObservedReplica{.phase = ReplicaPhase::unknown};
  }

  TemporaryFolder folder_;
  ProcessIdentity supervisor_;
  int port_ = 0, control_port_ = 0;
};

TEST_F(SupervisorTest, a_child_is_started_again_within_a_second_and_no_client_is_refused) {
  start();
  std::atomic<bool> done{false};
  std::atomic<int64_t> answers{0}, refused{0}, longest_ms{0};
  std::thread client([&] {
    while (!done) {
      const int64_t asked_ns = SystemClock().now_ns();
      const std::string answer = ask(port_);
      answers += answer.starts_with("gateway ");
      refused += answer == "refused";
      longest_ms = std::max(longest_ms.load(), (SystemClock().now_ns() - asked_ns) / 1'000'000);
      std::this_thread::sleep_for(milliseconds(1));  // or it runs out of ports
    }
  });
  const int rounds = std::getenv("NEUTRINO_TEST_LONG") != nullptr
                         ? 50
                         : 14;  // one after the other, as if they could not run
  int64_t slowest_ms = 0;
  for (int i = 0; i < rounds; ++i) {
    std::this_thread::sleep_for(milliseconds(20));
    const std::string child = i % 2 == 0 ? "gateway" : "control-plane";
    const pid_t before = pid_of(child);
    ASSERT_GT(before, 0);
    const int64_t killed_ns = SystemClock().now_ns();
    ::kill(before, SIGKILL);
    pid_t after = before;
    ASSERT_TRUE(eventually([&] { return (after = pid_of(child)) != 0 && after != before; }));
    slowest_ms = std::max(slowest_ms, (SystemClock().now_ns() - killed_ns) / 1'000'000);
  }
  done = true;
  client.join();
  EXPECT_EQ(refused, 0);
  EXPECT_GT(answers, 0);
  EXPECT_LT(slowest_ms, 3000);
  std::printf("[ measured ] restart after kill -9: slowest %ld ms of %d; longest wait of a client %ld ms\n",
              slowest_ms, rounds, longest_ms.load());
}

TEST_F(SupervisorTest, drains_one_child_after_the_other_and_leaves_replicas) {
  start();
  EXPECT_TRUE(eventually([&] { return replica().phase == ReplicaPhase::running; }));
  EXPECT_EQ(stop(), ExitStatus{});
  EXPECT_THAT(journal(),
              HasSubstr("drain gateway told\nend gateway\ndrain control-plane told\nend control-plane\n"));
  EXPECT_EQ(ask(port_), "refused");
  EXPECT_EQ(replica().phase, ReplicaPhase::running);
}

TEST_F(SupervisorTest, replicas_outlive_all_three_and_are_adopted_by_the_next) {
  start();
  EXPECT_TRUE(eventually([&] { return replica().phase == ReplicaPhase::running; }));
  const int64_t started_at_ms = replica().started_at_ms;
  const int replica_port = replica().port;
  ::kill(pid_of("gateway"), SIGKILL);
  ::kill(pid_of("control-plane"), SIGKILL);
  signal_process(supervisor_, SIGKILL);
  wait_for(supervisor_.pid);
  EXPECT_EQ(replica().phase, ReplicaPhase::running);
  EXPECT_TRUE(eventually([&] { return ask(replica_port).find("replicas/r1") != std::string::npos; }));
  start();  // its control plane starts the same replica again, which changes nothing
  EXPECT_EQ(replica().started_at_ms, started_at_ms);
  EXPECT_EQ(replica().port, replica_port);
}

TEST_F(SupervisorTest, children_of_a_killed_supervisor_notice_and_end_and_the_next_takes_over) {
  start();
  const pid_t gateway = pid_of("gateway");
  signal_process(supervisor_, SIGKILL);
  wait_for(supervisor_.pid);
  start();  // on the same port
  EXPECT_NE(pid_of("gateway"), gateway);
  EXPECT_TRUE(eventually([&] {
    const std::string text = journal();
    return text.find("end gateway") != std::string::npos &&
           text.find("end control-plane") != std::string::npos;
  }));
  EXPECT_THAT(journal(), HasSubstr("drain gateway alone"));
  EXPECT_THAT(journal(), HasSubstr("drain control-plane alone"));
}

TEST_F(SupervisorTest, there_is_one_at_a_time) {
  start();
  SupervisorOptions second{.lock_file = folder_.path() / "supervisor.lock"};
  EXPECT_THAT([&] { run_supervisor(second); },
              ::testing::ThrowsMessage<Error>(HasSubstr(fmt::format(
                  "another supervisor runs for {} (pid {})", folder_.path().string(), supervisor_.pid))));
}

TEST_F(SupervisorTest, a_crash_loop_waits_longer_each_time_and_ends_when_its_cause_does) {
  start();
  folder_.put("crash-gateway", "");
  ::kill(pid_of("gateway"), SIGKILL);
  const auto starts = [&] {
    const std::string text = journal();
    int64_t count = 0;
    for (size_t at = 0; (at = text.find("start gateway", at)) != text.npos; ++at) ++count;
    return count;
  };
  EXPECT_TRUE(eventually([&] { return starts() >= 5; }));
  std::this_thread::sleep_for(milliseconds(1000));
  EXPECT_LE(starts(), 7);  // 500 ms, then 1 s, 2 s: without waits there would be hundreds
  fs::remove(folder_.path() / "crash-gateway");
  EXPECT_TRUE(eventually([&] { return pid_of("gateway") != 0; }));
  EXPECT_GT(pid_of("control-plane"), 0);
}

TEST_F(SupervisorTest, a_child_that_calls_its_usage_bad_ends_it_all_with_that_code) {
  folder_.put("refuse-gateway", "");
  SpawnOptions options{.argv = testing::program("supervisor"), .group = ProcessGroup::session};
  options.argv.insert(options.argv.end(), {folder_.path().string(), "0"});
  EXPECT_EQ(wait_for(spawn(options).pid), ExitStatus{.code = 2});
}

TEST_F(SupervisorTest, a_second_signal_does_not_wait) {
  start();
  signal_process(supervisor_, SIGTERM);
  EXPECT_TRUE(eventually([&] { return journal().find("drain gateway told") != std::string::npos; }));
  EXPECT_EQ(stop(SIGINT), ExitStatus{});
}

TEST(SupervisorErrors, name_what_is_wrong) {
  TemporaryFolder folder;
  const auto message = [&](ListenAddress address, int64_t patience_ms = 0) -> std::string {
    SupervisorOptions options{
        .listeners = {address}, .lock_file = folder.path() / "lock", .bind_patience_ms = patience_ms};
    try {
      run_supervisor(options);
    } catch (const Error& error) {
      return error.message();
    }
    return "ran";
  };
  const pid_t child = ::fork();  // run_supervisor() blocks signals
  if (child == 0) {
    const FileDescriptor busy(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::inet_addr("127.0.0.1");
    socklen_t size = sizeof address;
    ::bind(busy.get(), reinterpret_cast<sockaddr*>(&address), size);
    ::listen(busy.get(), 1);
    ::getsockname(busy.get(), reinterpret_cast<sockaddr*>(&address), &size);
    const int port = ntohs(address.sin_port);
    EXPECT_EQ(message({.port = port}),
              fmt::format("port {} on 127.0.0.1 is in use by another program", port));
    EXPECT_EQ(message({.port = 70000}), "port must be 0-65535, got 70000");
    EXPECT_EQ(message({.host = "example.org"}),
              "the host to listen on must be an IP address, got \"example.org\"");
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  EXPECT_EQ(wait_for(child), ExitStatus{});
}

TEST(InheritedListener, is_found_by_name) {
  ::setenv("NEUTRINO_LISTENERS", "gateway=3,api=14,bad=x,low=0", 1);
  EXPECT_EQ(inherited_listener("gateway"), 3);
  EXPECT_EQ(inherited_listener("api"), 14);
  for (const char* name : {"bad", "low", "ga", ""}) EXPECT_EQ(inherited_listener(name), std::nullopt) << name;
  ::unsetenv("NEUTRINO_LISTENERS");
  EXPECT_EQ(inherited_listener("gateway"), std::nullopt);
  EXPECT_FALSE(supervisor_is_gone());  // there never was one
}

}  // namespace
}  // namespace neutrino::cloud
