#include "net/rate_limit.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "base/error.h"
#include "net/response.h"

namespace neutrino::net {
namespace {

constexpr double kWindowSeconds = 60;

int64_t steady_now_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

void set_limit(std::optional<TokenBucket>& bucket, int64_t per_minute, int64_t now_ns) {
  const auto capacity = static_cast<double>(per_minute);
  if (per_minute <= 0)
    bucket.reset();
  else if (!bucket)
    bucket.emplace(capacity, now_ns);
  else
    bucket->resize(capacity, now_ns);
}

void add_headers(std::vector<Header>& headers, std::string_view what,
                 const std::optional<TokenBucket>& bucket, int64_t now_ns) {
  if (!bucket) return;
  const double level = std::max(bucket->level(now_ns), 0.0);
  const double reset = bucket->seconds_until(bucket->capacity(), now_ns);
  headers.push_back({fmt::format("x-ratelimit-limit-{}", what), fmt::format("{:.0f}", bucket->capacity())});
  headers.push_back(
      {fmt::format("x-ratelimit-remaining-{}", what), fmt::format("{:.0f}", std::floor(level))});
  headers.push_back({fmt::format("x-ratelimit-reset-{}", what), duration_text(reset)});
}

}  // namespace

// ---- one bucket

double TokenBucket::level(int64_t now_ns) const {
  const double seconds = static_cast<double>(now_ns - filled_at_ns_) * 1e-9;
  return std::min(capacity_, level_ + seconds * capacity_ / kWindowSeconds);
}

bool TokenBucket::take(double amount, int64_t now_ns) {
  const double there = level(now_ns);
  // A level is a sum of fractions: a billionth short counts as enough, or "retry after" would be off by one.
  if (there < amount - capacity_ * 1e-9) return false;
  level_ = there - amount;
  filled_at_ns_ = now_ns;
  return true;
}

void TokenBucket::put_back(double amount, int64_t now_ns) {
  level_ = std::min(level(now_ns) + amount, capacity_);
  filled_at_ns_ = now_ns;
}

void TokenBucket::resize(double capacity, int64_t now_ns) {
  const double used = capacity_ - level(now_ns);
  capacity_ = capacity;
  level_ = capacity - used;
  filled_at_ns_ = now_ns;
}

double TokenBucket::seconds_until(double amount, int64_t now_ns) const {
  return std::max(0.0, (amount - level(now_ns)) * kWindowSeconds / capacity_);
}

// ---- one key

RateLimit::RateLimit(KeyLimits limits, int64_t now_ns) { set_limits(limits, now_ns); }

void RateLimit::set_limits(KeyLimits limits, int64_t now_ns) {
  set_limit(requests_, limits.requests_per_minute, now_ns);
  set_limit(tokens_, limits.tokens_per_minute, now_ns);
}

RateVerdict RateLimit::take_request(int64_t now_ns) {
  if (!requests_ || requests_->take(1, now_ns)) return {};
  return {.refusal =
              fmt::format("this key's limit of {:.0f} requests per minute is used up", requests_->capacity()),
          .retry_seconds = requests_->seconds_until(1, now_ns)};
}

RateVerdict RateLimit::reserve_tokens(int64_t prompt, int64_t completion, int64_t now_ns, int64_t& reserved) {
  reserved = 0;
  if (!tokens_) return {};
  const auto limit = static_cast<int64_t>(tokens_->capacity());
  if (prompt > limit)
    return {.refusal = fmt::format("the prompt has {} tokens; this key's limit is {} tokens per minute",
                                   prompt, limit)};
  const int64_t wanted = completion > limit - prompt ? limit : prompt + completion;
  if (tokens_->take(static_cast<double>(wanted), now_ns)) return reserved = wanted, RateVerdict{};
  return {.refusal =
              fmt::format("the request may take {} tokens, and {:.0f} are left of this key's {} per minute",
                          wanted, std::floor(std::max(tokens_->level(now_ns), 0.0)), limit),
          .retry_seconds = tokens_->seconds_until(static_cast<double>(wanted), now_ns)};
}

void RateLimit::settle_tokens(int64_t reserved, int64_t used, int64_t now_ns) {
  if (tokens_) tokens_->put_back(static_cast<double>(reserved - used), now_ns);
}

std::vector<Header> RateLimit::headers(int64_t now_ns) const {
  std::vector<Header> result;
  add_headers(result, "requests", requests_, now_ns);
  add_headers(result, "tokens", tokens_, now_ns);
  return result;
}

// ---- all keys

void RateLimits::update(std::span<const ApiKey> keys, int64_t now_ns) {
  std::map<std::string, std::shared_ptr<RateLimit>> updated;
  for (const ApiKey& key : keys) {
    if (key.limits.is_unlimited()) continue;
    auto limit = find(key.name);
    if (limit)
      limit->set_limits(key.limits, now_ns);
    else
      limit = std::make_shared<RateLimit>(key.limits, now_ns);
    updated.emplace(key.name, std::move(limit));
  }
  by_key_ = std::move(updated);
}

std::shared_ptr<RateLimit> RateLimits::find(const std::string& key_name) const {
  const auto found = by_key_.find(key_name);
  return found == by_key_.end() ? nullptr : found->second;
}

// ---- at a request

std::string duration_text(double seconds) {
  if (seconds < 1) return fmt::format("{:.0f}ms", std::ceil(seconds * 1000));
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  return whole < 60 ? fmt::format("{}s", whole) : fmt::format("{}m{}s", whole / 60, whole % 60);
}

void require(const RateVerdict& verdict, Response& response) {
  if (verdict.refusal.empty()) return;
  if (verdict.retry_seconds) {
    const double seconds = std::max(*verdict.retry_seconds, 0.001);
    response.set_header("Retry-After", fmt::format("{:.0f}", std::ceil(seconds)));
    response.set_header("retry-after-ms", fmt::format("{:.0f}", std::ceil(seconds * 1000)));
  }
  response.set_header("x-should-retry", verdict.retry_seconds ? "true" : "false");
  throw Error(ErrorCode::resource_exhausted, verdict.refusal).with_reason("rate_limit_exceeded");
}

TokenReservation::TokenReservation(const Request& request, Response& response, int64_t prompt,
                                   int64_t completion) {
  if (!request.rate_limit) return;
  require(request.rate_limit->reserve_tokens(prompt, completion, steady_now_ns(), reserved_), response);
  limit_ = request.rate_limit;
}

void TokenReservation::settle(int64_t used) {
  if (const auto limit = std::exchange(limit_, nullptr))
    limit->settle_tokens(reserved_, used, steady_now_ns());
}

}  // namespace neutrino::net
