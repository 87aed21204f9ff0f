// Both sides of the link between real sockets: tables, reports, wakes and usage, and what happens while one side is away.
#include "cloud/link.h"

#include <gtest/gtest.h>

#include <atomic>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/testing/temporary_folder.h"
#include "cloud/testing/stub_replica.h"
#include "net/testing/raw_client.h"

namespace neutrino::cloud {
namespace {

using net::testing::ask;
using net::testing::get;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

bool eventually(const std::function<bool()>& holds, milliseconds patience = milliseconds(10'000)) {
  const auto end = steady_clock::now() + patience;
  while (!holds() && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(2));
  return holds();
}

struct ControlSide {
  explicit ControlSide(int at = 0) : server({.port = at}), link(server, workers, services(), "secret") {
    server.listen();
    thread = std::thread([this] { server.run(); });
  }
  ~ControlSide() {
    server.stop();
    thread.join();
  }
  LinkServices services() {
    return {.routes = board,
            .report =
                [this](const std::string&, GatewayReport report, std::vector<std::string> wakes) {
                  const std::lock_guard lock(mutex);
                  version = report.version;
                  woken.insert(wakes.begin(), wakes.end());
                },
            .count =
                [this](const std::string&, int64_t after, const std::vector<UsageRecord>& records) {
                  const std::lock_guard lock(mutex);
                  if (after > known) return known;  // as the ledger does
                  for (const UsageRecord& record : records) counted.insert(record.sequence);
                  return known = std::max(known, records.back().sequence);
                }};
  }
  template <typename F>
  auto locked(F f) {
    const std::lock_guard lock(mutex);
    return f();
  }

  std::mutex mutex;  // of the next four
  int64_t known = 0;
  int64_t version = 0;
  std::set<std::string> woken;
  std::set<int64_t> counted;
  RouteBoard board;
  net::Workers workers{1};
  net::HttpServer server;
  LinkServer link;
  std::thread thread;
};

struct GatewaySide {
  GatewaySide(const std::filesystem::path& folder, int control_port, milliseconds period)
      : journal(folder / "usage"),
        gateway({.server = {.port = 0}, .usage = &journal}),
        link(gateway, journal,
             {.control_plane = {"127.0.0.1", control_port},
              .token = "secret",
              .folder = folder,
              .report_period = period}) {
    gateway.listen();
    thread = std::thread([this] { gateway.run(); });
  }
  ~GatewaySide() {
    gateway.drain(milliseconds(0));
    thread.join();
  }
  int status(const char* key) {
    return ask(gateway.port(), get("/v1/models", fmt::format("Authorization: Bearer {}\r\n", key))).status;
  }
  UsageJournal journal;
  Gateway gateway;
  GatewayLink link;
  std::thread thread;
};

RouteTable table_with_key(const char* key) {
  return {.keys = {{.id = "k", .workspace = "w", .digest = to_hex(sha256(key))}}};
}

TEST(Link, BringsTablesReportsAndUsageAcross) {
  const TemporaryFolder folder;
  ControlSide control;
  GatewaySide gateway(folder.path(), control.server.port(), milliseconds(20));
  control.board.publish(table_with_key("sk-one"), {}, 1);
  EXPECT_TRUE(eventually([&] { return gateway.status("sk-one") == 200; }));
  EXPECT_TRUE(
      eventually([&] { return control.locked([&] { return control.version; }) == control.board.version(); }));
  gateway.journal.record({.id = "u1"});
  gateway.journal.record({.id = "u2"});
  EXPECT_TRUE(eventually([&] { return control.locked([&] { return control.counted.size(); }) == 2; }));
  control.board.publish(table_with_key("sk-two"), {}, 2);
  EXPECT_TRUE(eventually([&] { return gateway.status("sk-one") == 401 && gateway.status("sk-two") == 200; }));
}

TEST(Link, AWakeDoesNotWaitForTheNextReport) {
  const TemporaryFolder folder;
  ControlSide control;
  GatewaySide gateway(folder.path(), control.server.port(), milliseconds(60'000));
  gateway.link.wake("e");
  EXPECT_TRUE(eventually([&] { return control.locked([&] { return control.woken.contains("e"); }); }));
}

TEST(Link, AGatewayGoesOnAndStartsAgainWithoutAControlPlane) {
  const TemporaryFolder folder;
  int port = 0;
  {
    ControlSide control;
    port = control.server.port();
    GatewaySide gateway(folder.path(), port, milliseconds(20));
    control.board.publish(table_with_key("sk-one"), {}, 1);
    ASSERT_TRUE(eventually([&] { return gateway.status("sk-one") == 200; }));
  }
  GatewaySide gateway(folder.path(), port, milliseconds(20));
  EXPECT_TRUE(eventually([&] { return gateway.status("sk-one") == 200; }));
  gateway.journal.record({.id = "u1"});
  ControlSide control(port);  // it is back, and knows another key
  control.board.publish(table_with_key("sk-two"), {}, 1);
  EXPECT_TRUE(eventually([&] { return gateway.status("sk-two") == 200; }));
  EXPECT_TRUE(eventually([&] { return control.locked([&] { return control.counted.contains(1); }); }));
}

TEST(Link, AControlPlaneThatKnowsLessThanItDidGetsTheRestAllTheSame) {
  const TemporaryFolder folder;
  ControlSide control;
  GatewaySide gateway(folder.path(), control.server.port(), milliseconds(20));
  gateway.journal.record({.id = "u1"});
  ASSERT_TRUE(eventually([&] { return control.locked([&] { return control.known; }) == 1; }));
  control.locked([&] { return control.known = 0; });  // a backup was restored
  gateway.journal.record({.id = "u2"});
  EXPECT_TRUE(eventually([&] { return control.locked([&] { return control.counted.contains(2); }); }));
}

TEST(Link, AsksForItsToken) {
  ControlSide control;
  const std::string path = "/internal/v1/gateways/g/routes?version=0";
  EXPECT_EQ(ask(control.server.port(), get(path)).status, 401);
  EXPECT_EQ(ask(control.server.port(), get(path, "Authorization: Bearer secreT\r\n")).status, 401);
  control.board.publish({}, {{"g", 7}}, 1);
  const auto answer = ask(control.server.port(), get(path, "Authorization: Bearer secret\r\n"));
  EXPECT_EQ(answer.status, 200);
  EXPECT_EQ(parse_json(answer.body).at("usage_sequence").to_number<int64_t>(), 7);
}

TEST(Link, AFileTokenIsMadeOnceAndForItsOwnerOnly) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "token";
  const std::string token = file_token(file);
  EXPECT_EQ(token.size(), 64);
  EXPECT_EQ(file_token(file), token);
  std::filesystem::permissions(file, std::filesystem::perms::group_read, std::filesystem::perm_options::add);
  EXPECT_THROW(file_token(file), Error);
}

}  // namespace
}  // namespace neutrino::cloud
