// Policies against each other on simulated replicas: each computes prompts one after the other at a fixed speed, keeps the prefixes
// that it used last, and then generates for a while without hindering others. One seed, one run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <list>
#include <queue>

#include "cloud/balancer.h"

namespace neutrino::cloud {
namespace {

constexpr int kReplicas = 8, kCached = 12;
constexpr double kTokensPerSecond = 10000, kDecodeSeconds = 0.5;
constexpr int64_t kPrefixTokens = 2048;

struct Traffic {
  int prefixes = 64;  // 0: every prompt is new
  int64_t suffix_tokens = 64;
  double hot_share = 0;  // of the requests have the first prefix
  double load = 0.7;     // of what the replicas could compute at `tokens_per_request`
  double tokens_per_request = kPrefixTokens + 64;
  int requests = 8000;
};

struct Result {
  double mean_s = 0, p90_s = 0,
         busiest = 0;  // time to first token; the most used replica's share of time computing
};

class Replica {
 public:
  double first_token_at(double now, int prefix, int64_t suffix_tokens) {
    const double work =
        static_cast<double>(suffix_tokens + (cached(prefix) ? 0 : kPrefixTokens)) / kTokensPerSecond;
    free_at_ = std::max(free_at_, now) + work;
    busy_s += work;
    return free_at_;
  }
  double busy_s = 0;

 private:
  bool cached(int prefix) {
    const auto found = std::find(cache_.begin(), cache_.end(), prefix);
    const bool hit = found != cache_.end();
    if (hit) cache_.erase(found);
    cache_.push_front(prefix);
    if (cache_.size() > kCached) cache_.pop_back();
    return hit;
  }
  double free_at_ = 0;
  std::list<int> cache_;
};

std::string text_of(int prefix, int64_t request, int64_t suffix_tokens) {
  std::string text = "prefix " + std::to_string(prefix) + " ";
  text.resize(kPrefixTokens * 4, '.');
  text += "request " + std::to_string(request) + " ";
  text.resize(static_cast<size_t>(kPrefixTokens + suffix_tokens) * 4, '.');
  return text;
}

Result simulate(const std::string& policy, const Traffic& traffic, uint64_t seed) {
  auto route = std::make_shared<EndpointRoute>();
  route->policy = policy == "only_prefix" ? "sticky" : policy;
  route->deployments.push_back({.id = "d"});
  for (int i = 0; i < kReplicas; ++i)
    route->deployments[0].replicas.push_back(
        {.id = std::to_string(i), .host = "::1", .port = 1 + i, .cache_tokens = kCached * kPrefixTokens});
  Balancer balancer(seed);
  balancer.update(route);

  Random random(seed);
  std::vector<Replica> replicas(kReplicas);
  struct Ending {
    double at;
    Pick pick;
    int64_t tokens;
    bool operator>(const Ending& other) const { return at > other.at; }
  };
  std::priority_queue<Ending, std::vector<Ending>, std::greater<>> endings;
  std::vector<double> waits;
  double now = 0;
  const double rate = traffic.load * kReplicas * kTokensPerSecond / traffic.tokens_per_request;
  for (int i = 0; i < traffic.requests; ++i) {
    now += -std::log(1 - random.uniform()) / rate;
    while (!endings.empty() && endings.top().at <= now) {
      balancer.finished(endings.top().pick, endings.top().tokens);
      endings.pop();
    }
    int prefix = traffic.prefixes == 0 ? 1000 + i : static_cast<int>(random.below(traffic.prefixes));
    if (traffic.hot_share > 0 && random.chance(traffic.hot_share)) prefix = 0;
    const auto hashes = prefix_hashes("m", text_of(prefix, i, traffic.suffix_tokens));
    const std::string sticky = std::to_string(prefix);
    const Pick pick = *balancer.pick({.prefix = hashes, .sticky = sticky});
    const int64_t tokens = kPrefixTokens + traffic.suffix_tokens + 64;
    balancer.started(pick, tokens, hashes);
    Replica& replica = replicas[static_cast<size_t>(std::stoi(pick.replica->route.id))];
    const double first = replica.first_token_at(now, prefix, traffic.suffix_tokens);
    if (i >= traffic.requests / 10) waits.push_back(first - now);  // caches are warm then
    endings.push({first + kDecodeSeconds, pick, tokens});
  }
  Result result;
  for (const double wait : waits) result.mean_s += wait / static_cast<double>(waits.size());
  std::nth_element(waits.begin(), waits.begin() + static_cast<int64_t>(waits.size()) * 9 / 10, waits.end());
  result.p90_s = waits[waits.size() * 9 / 10];
  for (const Replica& replica : replicas) result.busiest = std::max(result.busiest, replica.busy_s / now);
  return result;
}

std::vector<uint64_t> seeds() {
  return std::getenv("NEUTRINO_TEST_LONG") ? std::vector<uint64_t>{1, 2, 3, 4, 5, 6, 7, 8}
                                           : std::vector<uint64_t>{1};
}

void print(const char* what, const Result& result) {
  std::printf("%-28s mean %.3f s  p90 %.3f s  busiest %.2f\n", what, result.mean_s, result.p90_s,
              result.busiest);
}

// Capacity is counted without any cache, which favours the policies that do not use it.
TEST(PrefixSimulation, SharedPrefixes) {
  for (const uint64_t seed : seeds()) {
    const Result round_robin = simulate("round_robin", {}, seed);
    const Result least_loaded = simulate("least_loaded", {}, seed);
    const Result prefix = simulate("prefix", {}, seed);
    print("64 prefixes, round robin", round_robin);
    print("64 prefixes, least loaded", least_loaded);
    print("64 prefixes, prefix", prefix);
    EXPECT_LE(prefix.mean_s, 0.5 * round_robin.mean_s);
    EXPECT_GT(least_loaded.mean_s, 0.5 * round_robin.mean_s);  // it is the prefixes that bring it
  }
}

TEST(PrefixSimulation, RandomPrompts) {
  for (const uint64_t seed : seeds()) {
    const Result least_loaded = simulate("least_loaded", {.prefixes = 0}, seed);
    const Result prefix = simulate("prefix", {.prefixes = 0}, seed);
    print("random, least loaded", least_loaded);
    print("random, prefix", prefix);
    EXPECT_LE(prefix.mean_s, 1.05 * least_loaded.mean_s);
  }
}

// Half of what the replicas can do if every prefix is cached, 60 % of it with one prefix: the work of 2.4 replicas.
TEST(PrefixSimulation, OneHotPrefix) {
  const Traffic hot{.suffix_tokens = 512, .hot_share = 0.6, .load = 0.5, .tokens_per_request = 512};
  for (const uint64_t seed : seeds()) {
    const Result only_prefix =
        simulate("only_prefix", hot, seed);  // the same prefix always to the same replica
    const Result least_loaded = simulate("least_loaded", hot, seed);
    const Result prefix = simulate("prefix", hot, seed);
    print("hot prefix, only prefix", only_prefix);
    print("hot prefix, least loaded", least_loaded);
    print("hot prefix, prefix", prefix);
    EXPECT_LE(prefix.busiest, 0.9);
    EXPECT_LE(prefix.p90_s, 0.6);  // a prompt of which nothing is cached takes 0.26 s
    EXPECT_LT(prefix.mean_s, least_loaded.mean_s);
    EXPECT_GT(only_prefix.mean_s, 10 * prefix.mean_s);  // without a guard it overloads
  }
}

}  // namespace
}  // namespace neutrino::cloud
