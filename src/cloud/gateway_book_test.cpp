#include "cloud/gateway_book.h"

#include <gtest/gtest.h>

#include "cloud/publisher.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kAlive = 1000;

TEST(GatewayBook, AReplicaIsIdleWhenAllLivingGatewaysSaySoOfTheNewTable) {
  GatewayBook book(kAlive);
  EXPECT_TRUE(book.is_idle("r", 5, 0)) << "no gateway: no requests";
  book.take("a", {.version = 5, .endpoints = {}, .replicas = {}}, 0);
  book.take("b", {.version = 4, .endpoints = {}, .replicas = {}}, 0);
  EXPECT_FALSE(book.is_idle("r", 5, 0)) << "b may still send something";
  book.take("b", {.version = 5, .endpoints = {}, .replicas = {{"r", 1, 100}}}, 10);
  EXPECT_FALSE(book.is_idle("r", 5, 10));
  EXPECT_EQ(book.tokens_at("r"), 100);
  EXPECT_TRUE(book.is_idle("other", 5, 10));
  book.take("b", {.version = 6, .endpoints = {}, .replicas = {}}, 20);
  EXPECT_TRUE(book.is_idle("r", 5, 20));
}

TEST(GatewayBook, AGatewayThatIsExpectedCountsUntilItIsGone) {
  GatewayBook book(kAlive);
  book.expect("a", 100);
  EXPECT_FALSE(book.is_idle("r", 0, 200)) << "it has not said anything yet";
  EXPECT_TRUE(book.is_idle("r", 0, 100 + kAlive + 1));
}

TEST(GatewayBook, SamplesCountWhatWasStartedSince) {
  GatewayBook book(kAlive);
  const auto report = [](int64_t started, int64_t held) {
    EndpointSignals signals{.endpoint = "e", .tokens_in_flight = 7, .requests_held = held};
    signals.requests_started = started;
    return GatewayReport{.version = 1, .endpoints = {signals}, .replicas = {}};
  };
  book.take("a", report(100, 0), 0);
  EXPECT_EQ(book.take_samples(1).at("e").requests_started, 0) << "started before anybody listened";
  book.take("a", report(105, 2), 10);
  book.take("b", report(1, 3), 10);
  const ScalingSample sample = book.take_samples(11).at("e");
  EXPECT_EQ(sample.requests_started, 5);
  EXPECT_EQ(sample.requests_held, 5);
  EXPECT_EQ(sample.tokens_in_flight, 14);
  book.take("a", report(3, 0), 20);  // it came back
  EXPECT_EQ(book.take_samples(21).at("e").requests_started, 3);
}

TEST(GatewayBook, AWakeIsARequestThatWaits) {
  GatewayBook book(kAlive);
  book.wake("e");
  EXPECT_TRUE(book.has_wakes());
  EXPECT_EQ(book.take_samples(5).at("e").requests_held, 1);
  EXPECT_FALSE(book.has_wakes());
  EXPECT_TRUE(book.take_samples(6).empty());
}

// ---- the table that gateways get

Replica replica(const char* id, ReplicaState state, ReplicaGoal goal = ReplicaGoal::run) {
  return {
      .id = id, .deployment = "chat-1-main", .goal = goal, .state = state, .host = "127.0.0.1", .port = 1};
}

TEST(RouteTables, HaveTheReplicasThatMayBeAsked) {
  const std::map<std::string, Endpoint> endpoints{
      {"chat-1", {.id = "chat-1", .workspace = "w", .name = "chat", .deployments = {{.model = "smol"}}}}};
  ClusterState state;
  for (const Replica& one :
       {replica("ready", ReplicaState::ready), replica("loading", ReplicaState::loading),
        replica("draining", ReplicaState::ready, ReplicaGoal::drain),
        replica("stopped", ReplicaState::ready, ReplicaGoal::stop), replica("never", ReplicaState::unknown)})
    state.replicas.emplace(one.id, one);
  state.replicas["dark"] = replica("dark", ReplicaState::unknown);
  state.replicas["dark"].ready_ms = 1;
  Accounts accounts;
  accounts.prices["*"] = {.model = "*", .input = 3};
  accounts.keys = {{.id = "k", .workspace = "w", .digest = std::string(64, 'a'), .revoked_ms = 9}};
  accounts.key_budgets["k"] = {"b"};
  const RouteTable table =
      make_route_table(endpoints, state, accounts, [](const std::string& id) { return "key of " + id; });
  const DeploymentRoute& deployment = table.endpoints.at(0).deployments.at(0);
  std::map<std::string, bool> found;
  for (const ReplicaRoute& route : deployment.replicas) found[route.id] = route.draining;
  EXPECT_EQ(found, (std::map<std::string, bool>{{"ready", false}, {"draining", true}, {"dark", false}}));
  EXPECT_EQ(deployment.api_key, "key of chat-1-main");
  EXPECT_EQ(deployment.model, "chat");
  EXPECT_EQ(table.endpoints[0].prices.input, 3);
  EXPECT_TRUE(table.keys.at(0).revoked);
  EXPECT_EQ(table.keys[0].budgets, std::vector<std::string>{"b"});
}

TEST(RouteBoard, GivesANewVersionToWhatIsNewOnly) {
  RouteBoard board;
  int told = 0;
  board.on_publish([&] { ++told; });
  EXPECT_EQ(board.newest(), nullptr);
  EXPECT_TRUE(board.publish({.endpoints = {{.id = "a"}}}, {}, 1000));
  const int64_t first = board.version();
  EXPECT_FALSE(board.publish({.endpoints = {{.id = "a"}}}, {}, 2000));
  EXPECT_TRUE(board.publish({.endpoints = {{.id = "b"}}}, {{"g", 4}}, 500)) << "though the clock went back";
  EXPECT_GT(board.version(), first);
  EXPECT_EQ(board.newest()->counted.at("g"), 4);
  EXPECT_EQ(told, 2);
}

}  // namespace
}  // namespace neutrino::cloud
