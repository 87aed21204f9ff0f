#include "net/rate_limit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/clock.h"
#include "base/random.h"

namespace neutrino::net {
namespace {

constexpr int64_t kSecond = 1'000'000'000;

std::map<std::string, std::string> headers_of(const RateLimit& limit, int64_t now_ns) {
  std::map<std::string, std::string> result;
  for (const Header& header : limit.headers(now_ns)) result[header.name] = header.value;
  return result;
}

TEST(TokenBucket, HoldsAMinuteAndFillsEvenly) {
  SimulatedClock clock;
  TokenBucket bucket(60, clock.now_ns());
  EXPECT_TRUE(bucket.take(60, clock.now_ns()));
  EXPECT_FALSE(bucket.take(1, clock.now_ns()));
  EXPECT_DOUBLE_EQ(bucket.seconds_until(1, clock.now_ns()), 1);
  EXPECT_DOUBLE_EQ(bucket.seconds_until(60, clock.now_ns()), 60);
  clock.advance_ns(kSecond - 1000);
  EXPECT_FALSE(bucket.take(1, clock.now_ns()));
  clock.advance_ns(1000);
  EXPECT_TRUE(bucket.take(1, clock.now_ns()));
  clock.advance_ns(3600 * kSecond);
  EXPECT_DOUBLE_EQ(bucket.level(clock.now_ns()), 60);  // an idle hour is worth a minute
}

TEST(TokenBucket, WhatWasUsedBeyondTheReservationIsOwed) {
  TokenBucket bucket(60, 0);
  ASSERT_TRUE(bucket.take(60, 0));
  bucket.put_back(-30, 0);
  EXPECT_DOUBLE_EQ(bucket.level(0), -30);
  EXPECT_DOUBLE_EQ(bucket.seconds_until(1, 0), 31);
  bucket.put_back(1000, 0);
  EXPECT_DOUBLE_EQ(bucket.level(0), 60);
}

TEST(TokenBucket, AChangedLimitForgetsNothing) {
  TokenBucket bucket(100, 0);
  ASSERT_TRUE(bucket.take(80, 0));
  bucket.resize(1000, 0);
  EXPECT_DOUBLE_EQ(bucket.level(0), 920);
  bucket.resize(50, 0);
  EXPECT_DOUBLE_EQ(bucket.level(0), -30);
}

// Whatever the pattern of requests: over any stretch of time no more gets through than a full bucket and what came in since.
TEST(TokenBucket, NeverLetsMoreThroughThanItsRate) {
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Philox random(seed);
    SimulatedClock clock;
    const double capacity = 20 + std::floor(random.uniform(0) * 1000);
    TokenBucket bucket(capacity, 0);
    double taken = 0;
    for (uint64_t i = 1; i < 500; ++i) {
      clock.advance_ns(static_cast<int64_t>(random.uniform(3 * i) * 2 * kSecond));
      const double amount = std::floor(random.uniform(3 * i + 1) * capacity * 0.2);
      if (!bucket.take(amount, clock.now_ns())) {
        EXPECT_GT(bucket.seconds_until(amount, clock.now_ns()), 0);
        continue;
      }
      taken += amount;
      EXPECT_LE(taken, capacity * (1 + 1e-6 + static_cast<double>(clock.now_ns()) / (60.0 * kSecond)));
    }
    EXPECT_GT(taken, capacity);  // and it does let through
  }
}

TEST(TokenBucket, IsFullWhenItSaidItWouldBe) {
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    const Philox random(seed);
    TokenBucket bucket(1 + std::floor(random.uniform(0) * 1e6), 0);
    ASSERT_TRUE(bucket.take(bucket.capacity(), 0));
    const double amount = std::floor(1 + random.uniform(1) * (bucket.capacity() - 1));
    const auto at = static_cast<int64_t>(std::ceil(bucket.seconds_until(amount, 0) * 1e9));
    EXPECT_TRUE(bucket.take(amount, at)) << seed;
  }
}

TEST(RateLimit, CountsRequestsAndSaysWhenToComeBack) {
  RateLimit limit({.requests_per_minute = 2}, 0);
  EXPECT_EQ(limit.take_request(0).refusal, "");
  EXPECT_EQ(limit.take_request(0).refusal, "");
  const RateVerdict refused = limit.take_request(0);
  EXPECT_EQ(refused.refusal, "this key's limit of 2 requests per minute is used up");
  EXPECT_DOUBLE_EQ(refused.retry_seconds.value(), 30);
  EXPECT_EQ(limit.take_request(30 * kSecond).refusal, "");
}

TEST(RateLimit, ReservesTheMostThatARequestMayTakeAndSettlesWhatItTook) {
  RateLimit limit({.tokens_per_minute = 1000}, 0);
  int64_t first = 0, second = 0;
  EXPECT_EQ(limit.reserve_tokens(100, 500, 0, first).refusal, "");
  EXPECT_EQ(first, 600);
  const RateVerdict refused =
      limit.reserve_tokens(100, 500, 0, second);  // 600 of 1000 are held by the one that runs
  EXPECT_EQ(refused.refusal,
            "the request may take 600 tokens, and 400 are left of this key's 1000 per minute");
  EXPECT_DOUBLE_EQ(refused.retry_seconds.value(), 12);
  EXPECT_EQ(second, 0);
  limit.settle_tokens(first, 110, 0);
  EXPECT_EQ(headers_of(limit, 0).at("x-ratelimit-remaining-tokens"), "890");
  EXPECT_EQ(limit.reserve_tokens(100, 500, 0, second).refusal, "");
}

TEST(RateLimit, ARequestBeyondAMinuteTakesTheMinute) {
  RateLimit limit({.tokens_per_minute = 1000}, 0);
  int64_t reserved = 0;
  EXPECT_EQ(limit.reserve_tokens(1000, INT64_MAX, 0, reserved).refusal, "");
  EXPECT_EQ(reserved, 1000);
  limit.settle_tokens(reserved, 3000, 0);  // it ran for minutes: 2000 are owed
  EXPECT_DOUBLE_EQ(limit.reserve_tokens(1, 0, 0, reserved).retry_seconds.value(), 120.06);
  const RateVerdict never = limit.reserve_tokens(1001, 0, 0, reserved);
  EXPECT_EQ(never.refusal, "the prompt has 1001 tokens; this key's limit is 1000 tokens per minute");
  EXPECT_FALSE(never.retry_seconds.has_value());
}

TEST(RateLimit, HeadersAreOfTheLimitsThatThereAre) {
  RateLimit limit({.requests_per_minute = 60, .tokens_per_minute = 1200}, 0);
  limit.take_request(0);
  int64_t reserved = 0;
  limit.reserve_tokens(1000, 100, 0, reserved);
  const std::map<std::string, std::string> expected = {
      {"x-ratelimit-limit-requests", "60"},     {"x-ratelimit-limit-tokens", "1200"},
      {"x-ratelimit-remaining-requests", "59"}, {"x-ratelimit-remaining-tokens", "100"},
      {"x-ratelimit-reset-requests", "1s"},     {"x-ratelimit-reset-tokens", "55s"},
  };
  EXPECT_EQ(headers_of(limit, 0), expected);
  EXPECT_EQ(headers_of(limit, 30 * kSecond).at("x-ratelimit-remaining-requests"), "60");
  EXPECT_TRUE(headers_of(RateLimit({}, 0), 0).empty());
  EXPECT_EQ(headers_of(RateLimit({.tokens_per_minute = 1}, 0), 0).size(), 3U);
}

TEST(RateLimits, OutliveAReloadUnderTheirName) {
  const auto key = [](std::string name, int64_t per_minute) {
    return ApiKey{.name = std::move(name),
                  .digest = {},
                  .scopes = kAllScopes,
                  .limits = {.requests_per_minute = per_minute}};
  };
  RateLimits limits;
  limits.update(std::vector{key("a", 2), key("b", 0)}, 0);
  EXPECT_EQ(limits.find("b"), nullptr);
  const auto held = limits.find("a");
  held->take_request(0);
  held->take_request(0);
  limits.update(std::vector{key("a", 3)}, 0);
  EXPECT_EQ(limits.find("a"), held);
  EXPECT_EQ(limits.find("a")->take_request(0).refusal, "");  // one more than before
  EXPECT_NE(limits.find("a")->take_request(0).refusal, "");
  limits.update({}, 0);
  EXPECT_EQ(limits.find("a"), nullptr);
  EXPECT_NE(held->take_request(0).refusal, "");  // a request in flight may still settle
}

TEST(RateLimits, TimesAreWrittenAsOpenAiDoes) {
  for (const auto& [seconds, text] :
       {std::pair{0.0, "0ms"}, {0.1204, "121ms"}, {1.0, "1s"}, {59.2, "1m0s"}, {90, "1m30s"}})
    EXPECT_EQ(duration_text(seconds), text);
}

}  // namespace
}  // namespace neutrino::net
