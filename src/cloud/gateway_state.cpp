#include "cloud/gateway_state.h"

#include <algorithm>

#include "base/error.h"
#include "base/sha256.h"
#include "net/presented_key.h"
#include "net/response.h"

namespace neutrino::cloud {
namespace {

constexpr int64_t kSecondNs = 1'000'000'000;
constexpr int64_t kLatencyNs = 10 * kSecondNs;

Error bad_key(std::string message) {
  return Error(ErrorCode::unauthenticated, std::move(message)).with_reason("invalid_api_key");
}

}  // namespace

int64_t steady_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

int64_t unix_ms() {
  return std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
}

void LatencyWindow::add(double ms, int64_t now_ns) {
  const auto most = static_cast<size_t>(limits::kLatencySamples);
  if (samples_.size() < most) samples_.resize(samples_.size() + 1);
  samples_[next_] = {now_ns, ms};
  next_ = (next_ + 1) % most;
}

std::optional<double> LatencyWindow::p90(int64_t now_ns) const {
  std::vector<double> recent;
  for (const Sample& sample : samples_)
    if (sample.at_ns > now_ns - kLatencyNs) recent.push_back(sample.ms);
  if (recent.empty()) return std::nullopt;
  const auto at = recent.begin() + static_cast<int64_t>(recent.size() * 9 / 10);
  std::nth_element(recent.begin(), at, recent.end());
  return *at;
}

void MinuteCounter::add(int64_t now_ns) {
  const int64_t second = now_ns / kSecondNs;
  const auto slot = static_cast<size_t>(second % 60);
  if (seconds_[slot] != second) counts_[slot] = 0;
  seconds_[slot] = second;
  ++counts_[slot];
}

int64_t MinuteCounter::count(int64_t now_ns) const {
  int64_t sum = 0;
  for (size_t i = 0; i < counts_.size(); ++i)
    if (seconds_[i] > now_ns / kSecondNs - 60) sum += counts_[i];
  return sum;
}

const KeyRoute& authenticate(const RouteIndex& index, net::Request& request) {
  const std::string_view text = net::presented_key(request);
  if (text.empty()) throw bad_key("an API key is needed: Authorization: Bearer KEY");
  request.key_digest = sha256(text);
  return authenticate_again(index, request);
}

const KeyRoute& authenticate_again(const RouteIndex& index, const net::Request& request) {
  const KeyRoute* key = index.key(request.key_digest);
  if (!key) throw bad_key("this API key is not known");
  if (key->revoked) throw bad_key("this API key was revoked");
  if (key->expires_ms != 0 && unix_ms() >= key->expires_ms) throw bad_key("this API key has expired");
  if (!key->inference)
    throw Error(ErrorCode::permission_denied, "this API key is not for inference")
        .with_reason("insufficient_scope");
  if (!address_allowed(key->limits.addresses, net::peer_address(request)))
    throw make_error(ErrorCode::permission_denied, "this API key may not be used from {}",
                     net::peer_address(request))
        .with_reason("address_not_allowed");
  return *key;
}

bool is_valid(const RouteIndex& index, const net::Request& request) {
  const KeyRoute* key = index.key(request.key_digest);
  return key && !key->revoked && key->inference && (key->expires_ms == 0 || unix_ms() < key->expires_ms) &&
         address_allowed(key->limits.addresses, net::peer_address(request));
}

void take_request(net::RateLimit& rate, net::Response& response) {
  net::require(rate.take_request(steady_ns()), response);
}

}  // namespace neutrino::cloud
