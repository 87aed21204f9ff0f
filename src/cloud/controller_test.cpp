// The controller's loop, a turn at a time: rows in, calls of the provider and route tables out. Replicas are one stub server.
#include "cloud/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include <thread>

#include "base/testing/temporary_folder.h"
#include "cloud/testing/plain_provider.h"
#include "cloud/testing/stub_replica.h"

namespace neutrino::cloud {
namespace {

namespace asio = boost::asio;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What a prober runs on.
class IoThread {
 public:
  ~IoThread() { end(); }
  void end() {
    guard_.reset();
    if (thread_.joinable()) thread_.join();
  }
  asio::any_io_executor executor() { return context_.get_executor(); }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> guard_{context_.get_executor()};
  std::thread thread_{[this] { context_.run(); }};
};

class ControllerTest : public ::testing::Test {
 protected:
  ControllerTest() {
    migrate(database, kCloudComponent, cloud_migrations());
    stub.start();
    provider.port = stub.port();
    restart();
  }
  ~ControllerTest() override {
    controller.reset();
    prober.stop();
    io.end();  // a prober ends on its thread or after it
  }

  void restart() {
    controller = std::make_unique<Controller>(
        ControllerParts{.database = database,
                        .tables = tables,
                        .provider = provider,
                        .prober = prober,
                        .gateways = gateways,
                        .routes = routes,
                        .ledger = ledger,
                        .clock = clock,
                        .secrets = [](const Replica& r) { return r.replica_template.secrets; },
                        .replica_key = [](const std::string&) { return "key"; },
                        .may_remove = [](const std::string&) { return true; }},
        ControllerOptions{.program = {.command = {"neutrino", "serve"}}});
  }
  Endpoint add(Endpoint endpoint) {
    for (DeploymentSpec& spec : endpoint.deployments) spec.memory_bytes = 1, spec.revision = 1;
    database.write([&](store::Transaction& tx) { tables.endpoints.insert(tx, endpoint); });
    return endpoint;
  }
  void change(Endpoint& endpoint) {
    database.write([&](store::Transaction& tx) { tables.endpoints.update(tx, endpoint); });
  }
  // Turns until something holds.
  bool turns(const std::function<bool()>& holds) {
    for (int i = 0; i < 1000 && !holds(); ++i) {
      controller->turn();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return holds();
  }
  std::vector<std::string> routed() {
    std::vector<std::string> ids;
    const auto newest = routes.newest();
    if (!newest) return ids;
    RouteTable table;
    read_json(table, parse_json(newest->text), Accept::from_storage);
    for (const EndpointRoute& endpoint : table.endpoints)
      for (const DeploymentRoute& deployment : endpoint.deployments)
        for (const ReplicaRoute& replica : deployment.replicas)
          if (!replica.draining) ids.push_back(replica.id);
    return ids;
  }
  int64_t deployments() {
    return database.read([&](store::Transaction& tx) { return tables.deployments.count(tx); });
  }

  const TemporaryFolder folder;
  SystemClock clock;
  const Tables tables;
  store::Database database{{.url = (folder.path() / "cloud.db").string()}};
  testing::StubReplica stub;
  testing::PlainProvider provider;
  IoThread io;
  Prober prober{io.executor()};
  GatewayBook gateways{60'000};
  RouteBoard routes;
  UsageLedger ledger{database, tables, clock};
  std::unique_ptr<Controller> controller;
};

TEST_F(ControllerTest, AnEndpointBecomesReplicasBecomesRoutes) {
  Endpoint endpoint = add(
      {.id = "chat-1", .workspace = "w", .name = "chat", .deployments = {{.model = "smol", .replicas = 2}}});
  EXPECT_TRUE(turns([&] { return routed().size() == 2; }));
  EXPECT_THAT(routed(), ElementsAre("chat-1-main-1", "chat-1-main-2"));
  EXPECT_THAT(provider.started.at("chat-1-main-1").environment, Contains("NEUTRINO_API_KEY=@replica-key"));
  endpoint.deployments[0].replicas = 1;
  change(endpoint);
  EXPECT_TRUE(turns([&] { return provider.replicas.size() == 1; }));
  database.write([&](store::Transaction& tx) { tables.endpoints.erase(tx, endpoint); });
  EXPECT_TRUE(turns([&] { return provider.replicas.empty() && deployments() == 0; }));
  EXPECT_THAT(routed(), IsEmpty());
}

TEST_F(ControllerTest, OneThatComesBackTellsTheProviderNothingNew) {
  add({.id = "chat-1", .workspace = "w", .name = "chat", .deployments = {{.command = {"x"}, .replicas = 1}}});
  ASSERT_TRUE(turns([&] { return routed().size() == 1; }));
  provider.calls.clear();
  restart();
  for (int i = 0; i < 5; ++i) controller->turn();
  EXPECT_THAT(provider.calls, IsEmpty());
  EXPECT_THAT(routed(), ElementsAre("chat-1-main-1"));
}

TEST_F(ControllerTest, ARequestThatWaitsWakesWhatSleeps) {
  add({.id = "chat-1", .workspace = "w", .name = "chat", .deployments = {{.command = {"x"}}}});
  for (int i = 0; i < 3; ++i) controller->turn();
  EXPECT_THAT(provider.calls, IsEmpty());
  gateways.wake("chat-1");
  controller->turn();
  EXPECT_THAT(provider.calls, ElementsAre("start chat-1-main-1 1"));
  EXPECT_TRUE(turns([&] { return routed().size() == 1; }));
}

TEST_F(ControllerTest, APausedEndpointHasNoReplicas) {
  Endpoint endpoint = add(
      {.id = "chat-1", .workspace = "w", .name = "chat", .deployments = {{.command = {"x"}, .replicas = 1}}});
  ASSERT_TRUE(turns([&] { return routed().size() == 1; }));
  endpoint.paused = true;
  change(endpoint);
  EXPECT_TRUE(turns([&] { return provider.replicas.empty(); }));
}

TEST_F(ControllerTest, ADrainedReplicaStaysUntilTheGatewaysHaveLeftIt) {
  Endpoint endpoint = add(
      {.id = "chat-1", .workspace = "w", .name = "chat", .deployments = {{.command = {"x"}, .replicas = 1}}});
  ASSERT_TRUE(turns([&] { return routed().size() == 1; }));
  const auto report = [&](int64_t version, std::vector<ReplicaUse> uses) {
    gateways.take("g", {.version = version, .endpoints = {}, .replicas = std::move(uses)}, clock.unix_ms());
  };
  report(routes.version(), {});
  endpoint.deployments[0].replicas = 0;
  change(endpoint);
  ASSERT_TRUE(turns([&] { return routed().empty(); }));
  for (int i = 0; i < 3; ++i) controller->turn();
  EXPECT_EQ(provider.replicas.at("chat-1-main-1").phase, ReplicaPhase::running)
      << "its last table still routes there";
  report(routes.version(), {{"chat-1-main-1", 1, 9}});
  for (int i = 0; i < 3; ++i) controller->turn();
  EXPECT_EQ(provider.replicas.at("chat-1-main-1").phase, ReplicaPhase::running) << "a request is there";
  report(routes.version(), {});
  EXPECT_TRUE(turns([&] { return provider.replicas.empty(); }));
}

}  // namespace
}  // namespace neutrino::cloud
