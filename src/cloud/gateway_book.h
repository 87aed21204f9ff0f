// What all gateways said last: who still sends requests where. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "cloud/autoscaler.h"
#include "cloud/gateway.h"

namespace neutrino::cloud {

class GatewayBook {
 public:
  // A gateway that was not heard of for `alive_ms` is gone, and its requests with it.
  explicit GatewayBook(int64_t alive_ms) : alive_ms_(alive_ms) {}

  // Those that a database remembers: they count until they are heard of, or for `alive_ms`.
  void expect(const std::string& gateway, int64_t seen_ms);
  void take(const std::string& gateway, GatewayReport report, int64_t now_ms);
  void wake(const std::string& endpoint);  // a request waits for it

  // No living gateway has a request at the replica, nor a route table before `version`.
  bool is_idle(const std::string& replica, int64_t version, int64_t now_ms) const;
  double tokens_at(const std::string& replica) const;

  // Of each endpoint that anything was heard of since the call before, one sample; requests are counted from what was started since.
  std::map<std::string, ScalingSample> take_samples(int64_t now_ms);
  bool has_wakes() const;

 private:
  struct Entry {
    int64_t seen_ms = 0;
    bool reported = false;  // by the process that is there now
    GatewayReport report;
    std::map<std::string, int64_t> uses;     // requests by replica
    std::map<std::string, int64_t> started;  // requests by endpoint that samples contain
  };
  void add_sample(Entry& entry, const EndpointSignals& signals,
                  std::map<std::string, ScalingSample>& samples);

  const int64_t alive_ms_;
  mutable std::mutex mutex_;  // of all below
  std::map<std::string, Entry> gateways_;
  std::map<std::string, int64_t> wakes_;  // since the last samples
};

}  // namespace neutrino::cloud
