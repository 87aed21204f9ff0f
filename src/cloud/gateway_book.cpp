#include "cloud/gateway_book.h"

#include <algorithm>
#include <utility>

namespace neutrino::cloud {
namespace {

void keep_larger(std::optional<double>& mine, const std::optional<double>& other) {
  if (other) mine = std::max(mine.value_or(0), *other);
}

}  // namespace

void GatewayBook::expect(const std::string& gateway, int64_t seen_ms) {
  const std::lock_guard lock(mutex_);
  gateways_.try_emplace(gateway, Entry{.seen_ms = seen_ms});
}

void GatewayBook::take(const std::string& gateway, GatewayReport report, int64_t now_ms) {
  const std::lock_guard lock(mutex_);
  Entry& entry = gateways_[gateway];
  entry.seen_ms = now_ms;
  entry.reported = true;
  entry.uses.clear();
  for (const ReplicaUse& use : report.replicas) entry.uses[use.replica] = use.requests;
  entry.report = std::move(report);
}

void GatewayBook::wake(const std::string& endpoint) {
  const std::lock_guard lock(mutex_);
  ++wakes_[endpoint];
}

bool GatewayBook::has_wakes() const {
  const std::lock_guard lock(mutex_);
  return !wakes_.empty();
}

bool GatewayBook::is_idle(const std::string& replica, int64_t version, int64_t now_ms) const {
  const std::lock_guard lock(mutex_);
  return std::ranges::all_of(gateways_, [&](const auto& named) {
    const Entry& entry = named.second;
    if (now_ms - entry.seen_ms > alive_ms_) return true;
    return entry.reported && entry.report.version >= version && !entry.uses.contains(replica);
  });
}

double GatewayBook::tokens_at(const std::string& replica) const {
  const std::lock_guard lock(mutex_);
  double tokens = 0;
  for (const auto& [id, entry] : gateways_)
    for (const ReplicaUse& use : entry.report.replicas)
      if (use.replica == replica) tokens += static_cast<double>(use.tokens);
  return tokens;
}

std::map<std::string, ScalingSample> GatewayBook::take_samples(int64_t now_ms) {
  const std::lock_guard lock(mutex_);
  std::map<std::string, ScalingSample> samples;
  for (auto& [id, entry] : gateways_)
    if (entry.reported && now_ms - entry.seen_ms <= alive_ms_)
      for (const EndpointSignals& signals : entry.report.endpoints) add_sample(entry, signals, samples);
  for (const auto& [endpoint, count] : wakes_) {
    ScalingSample& sample = samples[endpoint];
    sample.requests_held = std::max<int64_t>(sample.requests_held, 1);
  }
  wakes_.clear();
  for (auto& [endpoint, sample] : samples) sample.at_ms = now_ms;
  return samples;
}

// A gateway that came back counts from zero again.
void GatewayBook::add_sample(Entry& entry, const EndpointSignals& signals,
                             std::map<std::string, ScalingSample>& samples) {
  const auto [before, first] = entry.started.try_emplace(signals.endpoint, signals.requests_started);
  const bool anew = signals.requests_started < before->second;
  const int64_t started = first ? 0 : signals.requests_started - (anew ? 0 : before->second);
  before->second = signals.requests_started;
  ScalingSample& sample = samples[signals.endpoint];
  sample.tokens_in_flight += static_cast<double>(signals.tokens_in_flight);
  sample.tokens_queued += static_cast<double>(signals.tokens_held);
  sample.requests_held += signals.requests_held;
  sample.requests_started += started;
  keep_larger(sample.time_to_first_token_p90_ms, signals.time_to_first_token_p90_ms);
  keep_larger(sample.inter_token_latency_p90_ms, signals.inter_token_latency_p90_ms);
}

}  // namespace neutrino::cloud
