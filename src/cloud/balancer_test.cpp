#include "cloud/balancer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

namespace neutrino::cloud {
namespace {

std::shared_ptr<EndpointRoute> endpoint(std::string policy, int replicas) {
  auto result = std::make_shared<EndpointRoute>();
  result->policy = std::move(policy);
  result->deployments.push_back({.id = "d"});
  for (int i = 0; i < replicas; ++i)
    result->deployments[0].replicas.push_back(
        {.id = std::string(1, static_cast<char>('a' + i)), .host = "127.0.0.1", .port = 1 + i});
  return result;
}

std::string picked(Balancer& balancer, const PickRequest& request = {}) {
  const auto pick = balancer.pick(request);
  return pick ? pick->replica->route.id : "none";
}

TEST(Prefix, HashesNameAllTextUpToTheirChunksEnd) {
  const std::string text(1000, 'x');
  const auto hashes = prefix_hashes("m", text);
  EXPECT_EQ(hashes.size(), 3u);  // whole chunks
  EXPECT_EQ(prefix_hashes("m", text.substr(0, 512)), std::vector(hashes.begin(), hashes.begin() + 2));
  EXPECT_NE(prefix_hashes("other", text)[0], hashes[0]);
  std::string changed = text;
  changed[0] = 'y';
  EXPECT_NE(prefix_hashes("m", changed)[2], hashes[2]);  // although that chunk is the same
  EXPECT_EQ(prefix_hashes("m", std::string(4 << 20, 'x')).size(), static_cast<size_t>(limits::kPrefixChunks));
}

TEST(Prefix, TheIndexForgetsWhatWasUsedLeastRecently) {
  PrefixIndex index(4);
  index.add(std::vector<uint64_t>{1, 2});
  index.add(std::vector<uint64_t>{3, 4});
  index.add(std::vector<uint64_t>{1, 2});
  index.add(std::vector<uint64_t>{5});
  EXPECT_EQ(index.match(std::vector<uint64_t>{1, 2, 9}), 2);
  EXPECT_EQ(index.match(std::vector<uint64_t>{3, 4}), 1);  // its end goes first
  EXPECT_EQ(index.match(std::vector<uint64_t>{4}), 0);
  EXPECT_EQ(index.size(), 4);
  index.set_capacity(1);
  EXPECT_EQ(index.size(), 1);
}

TEST(Balancer, LeastLoadedOfTwoNeverTakesTheBusiest) {
  Balancer balancer(1);
  balancer.update(endpoint("least_loaded", 3));
  std::map<std::string, int> first;
  for (int i = 0; i < 300; ++i) ++first[picked(balancer)];
  for (const auto& [id, count] : first) EXPECT_GT(count, 60) << id;
  const auto busy = balancer.pick({});
  balancer.started(*busy, 1000, {});
  for (int i = 0; i < 100; ++i) EXPECT_NE(picked(balancer), busy->replica->route.id);
  balancer.finished(*busy, 1000);
  EXPECT_EQ(busy->replica->tokens, 0);
}

TEST(Balancer, WhatCannotBePicked) {
  auto route = endpoint("least_loaded", 2);
  Balancer balancer(1);
  balancer.update(route);
  const auto tried = balancer.pick({});
  const std::vector<std::shared_ptr<ReplicaLoad>> one{tried->replica};
  EXPECT_NE(picked(balancer, {.tried = one}), tried->replica->route.id);
  EXPECT_EQ(picked(balancer, {.replica = "b"}), "b");
  EXPECT_EQ(picked(balancer, {.replica = "z"}), "none");
  auto drained = std::make_shared<EndpointRoute>(*route);
  drained->deployments[0].replicas[0].draining = true;
  balancer.update(drained);
  for (int i = 0; i < 20; ++i) EXPECT_EQ(picked(balancer), "b");
  balancer.update(endpoint("least_loaded", 0));
  EXPECT_EQ(picked(balancer), "none");
  EXPECT_FALSE(balancer.has_replica(0));
}

TEST(Balancer, LoadsStayOverANewTableUnlessTheAddressChanged) {
  Balancer balancer(1);
  balancer.update(endpoint("least_loaded", 2));
  const auto pick = balancer.pick({.replica = "a"});
  balancer.started(*pick, 10, {});
  balancer.update(endpoint("least_loaded", 3));
  for (int i = 0; i < 60; ++i) EXPECT_NE(picked(balancer), "a");
  auto moved = endpoint("least_loaded", 2);
  moved->deployments[0].replicas[0].port = 99;
  balancer.update(moved);
  EXPECT_EQ(balancer.pick({.replica = "a"})->replica->tokens, 0);
  balancer.finished(*pick, 10);  // of the old one
  EXPECT_EQ(balancer.pick({.replica = "a"})->replica->tokens, 0);
}

TEST(Balancer, WeightsSplitTheTrafficAndAShadowTakesNone) {
  auto route = endpoint("least_loaded", 1);
  route->deployments[0].weight = 90;
  for (const char* id : {"canary", "shadow", "empty"}) {
    DeploymentRoute more{.id = id, .weight = 10};
    if (more.id == "shadow") more.weight = 0, more.shadow_percent = 50;
    if (more.id == "empty") more.weight = 1000;  // none of its replicas is ready
    if (more.id != "empty") more.replicas.push_back({.id = id, .host = "::1", .port = 1});
    route->deployments.push_back(more);
  }
  Balancer balancer(7);
  balancer.update(route);
  std::map<std::string, int> counts;
  int shadows = 0;
  for (int i = 0; i < 10000; ++i) {
    ++counts[balancer.pick({})->deployment->id];
    const auto shadow = balancer.pick_shadow({});
    EXPECT_TRUE(!shadow || shadow->deployment->id == "shadow");
    shadows += shadow.has_value();
  }
  EXPECT_NEAR(counts["d"], 9000, 150);
  EXPECT_NEAR(counts["canary"], 1000, 150);
  EXPECT_EQ(counts.size(), 2u);
  EXPECT_NEAR(shadows, 5000, 200);
}

TEST(Balancer, StickyMovesOnlyTheShareOfTheReplicaThatLeft) {
  Balancer balancer(1);
  balancer.update(endpoint("sticky", 4));
  std::map<std::string, std::string> before;
  std::set<std::string> used;
  for (int i = 0; i < 400; ++i) {
    const std::string key = "user-" + std::to_string(i);
    before[key] = picked(balancer, {.sticky = key});
    EXPECT_EQ(picked(balancer, {.sticky = key}), before[key]);
    used.insert(before[key]);
  }
  EXPECT_EQ(used.size(), 4u);
  balancer.update(endpoint("sticky", 3));
  for (const auto& [key, replica] : before)
    EXPECT_TRUE(replica == "d" || picked(balancer, {.sticky = key}) == replica) << key;
}

TEST(Balancer, FailingReplicasArePutAsideButNeverMoreThanHalf) {
  Balancer balancer(1);
  balancer.update(endpoint("least_loaded", 4));
  const auto fail = [&](const char* id, int times, int64_t now) {
    const auto pick = balancer.pick({.replica = id, .now_ns = now});
    for (int i = 0; i < times; ++i) balancer.outcome(*pick, false, now);
    return pick;
  };
  const auto is_used = [&](const std::string& id, int64_t now) {
    bool used = false;
    for (int i = 0; i < 100; ++i) used = used || picked(balancer, {.now_ns = now}) == id;
    return used;
  };
  constexpr int64_t kSecond = 1'000'000'000;
  fail("a", 2, 0);
  EXPECT_TRUE(is_used("a", 0));
  const auto a = fail("a", 1, 0);
  EXPECT_FALSE(is_used("a", 4 * kSecond));
  EXPECT_TRUE(is_used("a", 6 * kSecond));
  fail("a", 3, 6 * kSecond);
  EXPECT_FALSE(is_used("a", 15 * kSecond));  // twice as long
  balancer.outcome(*a, true, 15 * kSecond);
  EXPECT_TRUE(is_used("a", 15 * kSecond));
  for (const char* id : {"a", "b", "c", "d"}) fail(id, 3, 20 * kSecond);
  EXPECT_FALSE(is_used("a", 21 * kSecond));
  EXPECT_FALSE(is_used("b", 21 * kSecond));
  EXPECT_TRUE(is_used("c", 21 * kSecond));
  EXPECT_TRUE(is_used("d", 21 * kSecond));
}

TEST(Balancer, PrefixPrefersWhoKnowsThePromptUnlessItIsBusier) {
  Balancer balancer(3);
  balancer.update(endpoint("prefix", 3));
  const auto hashes = prefix_hashes("m", std::string(2048, 'p'));
  const PickRequest request{.prefix = hashes};
  const auto home = balancer.pick(request);
  balancer.started(*home, 600, hashes);
  balancer.finished(*home, 600);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(picked(balancer, request), home->replica->route.id);
  for (int i = 0; i < 3; ++i) balancer.started(*home, 600, {});
  EXPECT_NE(picked(balancer, request), home->replica->route.id);  // 3 there, none elsewhere
}

}  // namespace
}  // namespace neutrino::cloud
