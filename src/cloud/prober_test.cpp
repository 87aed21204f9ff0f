// The prober against a server of two lines whose answers the test chooses.
#include "cloud/prober.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <functional>
#include <thread>

#include "base/error.h"
#include "base/file.h"

namespace neutrino::cloud {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

// Answers each connection with `status`; with 0 it says nothing for a second.
class StatusServer {
 public:
  StatusServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = ::inet_addr("127.0.0.1");
    socklen_t size = sizeof address;
    check(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
    check(::listen(listener_.get(), 64) == 0);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~StatusServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);
    thread_.join();
  }
  int port() const { return port_; }
  std::atomic<int> status{503}, asked{0};

 private:
  void serve() {
    for (;;) {
      const FileDescriptor client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (!client) return;
      char request[2048];
      if (::read(client.get(), request, sizeof request) <= 0) continue;
      ++asked;
      if (status == 0) std::this_thread::sleep_for(milliseconds(1000));
      const std::string answer =
          fmt::format("HTTP/1.1 {} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", status.load());
      (void)!::send(client.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    }
  }
  FileDescriptor listener_;
  int port_ = 0;
  std::thread thread_;
};

class ProberTest : public ::testing::Test {
 protected:
  ProberTest() : thread_([this] { io_.run(); }) {}
  ~ProberTest() override {
    prober_.stop();
    work_.reset();
    thread_.join();
  }
  ProbeTarget target(const std::string& id, int port, int64_t generation = 1) {
    ProbePlan plan;
    plan.startup = {.path = "/ready", .period_ms = 5, .timeout_ms = 200};
    plan.readiness = {.path = "/ready", .period_ms = 5, .timeout_ms = 200, .failures = 2};
    plan.liveness = {.path = "/live", .period_ms = 5, .timeout_ms = 200, .failures = 1'000'000};
    return {.id = id, .generation = generation, .host = "127.0.0.1", .port = port, .plan = plan};
  }
  bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 5000; ++i) {
      if (condition()) return true;
      std::this_thread::sleep_for(milliseconds(2));
    }
    return false;
  }
  ProbeVerdict verdict(const std::string& id) {
    const auto all = prober_.verdicts();
    const auto found = all.find(id);
    return found == all.end() ? ProbeVerdict{.message = "none"} : found->second.verdict;
  }

  boost::asio::io_context io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  std::atomic<int> changes_{0};
  Prober prober_{io_.get_executor(), [this] { ++changes_; }};
  std::thread thread_;
};

TEST_F(ProberTest, follows_a_replica_from_start_to_unready_and_back) {
  StatusServer server;
  prober_.set_targets({target("r1", server.port())});
  EXPECT_TRUE(eventually([&] { return server.asked > 3; }));
  EXPECT_FALSE(verdict("r1").started);
  server.status = 200;
  EXPECT_TRUE(eventually([&] { return verdict("r1").ready; }));
  server.status = 503;
  EXPECT_TRUE(eventually([&] { return verdict("r1").reason == Reason::not_ready; }));
  EXPECT_EQ(verdict("r1").message, "GET /ready: status 503");
  server.status = 204;
  EXPECT_TRUE(eventually([&] { return verdict("r1").ready; }));
  EXPECT_EQ(changes_, 3);
}

TEST_F(ProberTest, says_why_there_is_no_answer) {
  StatusServer server;
  int closed_port = 0;
  {
    StatusServer gone;
    closed_port = gone.port();
  }
  server.status = 200;
  ProbeTarget silent = target("silent", server.port()), closed = target("closed", closed_port);
  closed.plan.startup_deadline_ms = 50;
  prober_.set_targets({silent, closed});
  EXPECT_TRUE(eventually([&] { return verdict("silent").ready && verdict("closed").failed; }));
  EXPECT_THAT(verdict("closed").message, HasSubstr("GET /ready: refused"));
  server.status = 0;
  EXPECT_TRUE(eventually([&] { return verdict("silent").reason == Reason::not_ready; }));
  EXPECT_EQ(verdict("silent").message, "GET /ready: timeout");
}

TEST_F(ProberTest, asks_exactly_its_targets_and_a_new_generation_anew) {
  StatusServer one, two;
  one.status = two.status = 200;
  prober_.set_targets({target("r1", one.port()), target("r2", two.port())});
  EXPECT_TRUE(eventually([&] { return verdict("r1").ready && verdict("r2").ready; }));
  prober_.set_targets({target("r1", one.port())});
  EXPECT_TRUE(eventually([&] { return prober_.verdicts().size() == 1; }));
  EXPECT_TRUE(verdict("r1").ready);  // went on
  std::this_thread::sleep_for(milliseconds(50));
  const int asked = two.asked;
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(two.asked, asked);
  one.status = 503;
  prober_.set_targets({target("r1", one.port(), 2)});
  EXPECT_TRUE(eventually([&] { return !verdict("r1").started && prober_.verdicts()["r1"].generation == 2; }));
  EXPECT_THAT(prober_.verdicts(), SizeIs(1));
}

}  // namespace
}  // namespace neutrino::cloud
