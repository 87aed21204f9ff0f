// How much one API key may use: requests and tokens per minute, each a token bucket.
//
// A bucket holds at most one minute's worth and fills evenly, so a key that was idle may use its whole minute at once. A request
// takes 1 from the first bucket when its header is there; what it will take from the second is reserved when its prompt is known
// (the prompt and the most it may generate) and settled when it has ended, so that requests in flight cannot overrun the limit
// together. All of this is arithmetic on a time that the caller gives: nothing here has a clock or a lock. One thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "net/api_keys.h"

namespace neutrino::net {

class Response;

class TokenBucket {
 public:
  // `capacity` > 0 comes back within a minute; starts full at `now_ns`.
  TokenBucket(double capacity, int64_t now_ns)
      : capacity_(capacity), level_(capacity), filled_at_ns_(now_ns) {}

  bool take(double amount, int64_t now_ns);      // false: not enough there, nothing was taken
  void put_back(double amount, int64_t now_ns);  // below zero: used beyond what was taken, owed from now on
  void resize(double capacity, int64_t now_ns);  // what was used stays used

  double capacity() const { return capacity_; }
  double level(int64_t now_ns) const;
  double seconds_until(double amount, int64_t now_ns) const;  // 0: now

 private:
  double capacity_, level_;
  int64_t filled_at_ns_;
};

// What a limit says to a request.
struct RateVerdict {
  std::string refusal = {};                  // a sentence; empty: go on
  std::optional<double> retry_seconds = {};  // of a refusal; absent: never
};

// The state of one key.
class RateLimit {
 public:
  RateLimit(KeyLimits limits, int64_t now_ns);

  RateVerdict take_request(int64_t now_ns);
  // A request larger than a whole minute's tokens takes the minute; `reserved` gets what was taken. A prompt that alone is
  // beyond the limit is refused for good.
  RateVerdict reserve_tokens(int64_t prompt, int64_t completion, int64_t now_ns, int64_t& reserved);
  void settle_tokens(int64_t reserved, int64_t used, int64_t now_ns);

  void set_limits(KeyLimits limits, int64_t now_ns);
  std::vector<Header> headers(int64_t now_ns) const;  // x-ratelimit-{limit,remaining,reset}-{requests,tokens}

 private:
  std::optional<TokenBucket> requests_, tokens_;  // absent: no limit
};

// The keys' states by name. They outlive a reload of the key file.
class RateLimits {
 public:
  void update(std::span<const ApiKey> keys, int64_t now_ns);
  std::shared_ptr<RateLimit> find(const std::string& key_name) const;  // null: that key has no limit

 private:
  std::map<std::string, std::shared_ptr<RateLimit>> by_key_;
};

// "350ms", "12s", "1m30s": OpenAI's way to say when a bucket is full again.
std::string duration_text(double seconds);

// Throws Error{resource_exhausted, reason rate_limit_exceeded} for a refusal, after it has put Retry-After into the answer.
void require(const RateVerdict& verdict, Response& response);

// What a request holds of its key's tokens while it runs: a handler makes one before it starts the work, and settles it with
// what was used. Unsettled, all goes back. Empty for a key without a limit.
class TokenReservation {
 public:
  TokenReservation(const Request& request, Response& response, int64_t prompt, int64_t completion);
  ~TokenReservation() { settle(0); }
  TokenReservation(const TokenReservation&) = delete;
  TokenReservation& operator=(const TokenReservation&) = delete;
  void settle(int64_t used);  // later calls do nothing

 private:
  std::shared_ptr<RateLimit> limit_;
  int64_t reserved_ = 0;
};

}  // namespace neutrino::net
