// What the requests of a gateway share. io thread only. For gateway*.cpp alone.
#pragma once

#include <boost/asio/any_io_executor.hpp>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cloud/balancer.h"
#include "cloud/budget.h"
#include "cloud/gateway.h"
#include "net/client.h"
#include "net/rate_limit.h"
#include "net/signal.h"

namespace neutrino::cloud {

class GatewayRequest;

int64_t steady_ns();
int64_t unix_ms();

// The newest samples, for a percentile over the last seconds.
class LatencyWindow {
 public:
  void add(double ms, int64_t now_ns);
  std::optional<double> p90(int64_t now_ns) const;

 private:
  struct Sample {
    int64_t at_ns;
    double ms;
  };
  std::vector<Sample> samples_;  // a ring
  size_t next_ = 0;
};

// Events of the last minute, by second.
class MinuteCounter {
 public:
  void add(int64_t now_ns);
  int64_t count(int64_t now_ns) const;

 private:
  std::array<int64_t, 60> counts_{}, seconds_{};
};

struct EndpointState {
  EndpointState(uint64_t seed, int64_t now_ns) : balancer(seed), rate({}, now_ns) {}
  std::shared_ptr<const EndpointRoute> route;  // of the newest table
  bool gone = false;                           // it is in no table any more
  Balancer balancer;
  net::RateLimit rate;
  int64_t open = 0;                 // requests, held ones included
  std::list<net::Signal*> waiting;  // held, in order of arrival
  int64_t requests_in_flight = 0, tokens_in_flight = 0, tokens_held = 0, requests_started = 0;
  int64_t last_request_ms = 0, wake_asked_ns = 0;
  MinuteCounter arrivals;
  LatencyWindow first_token, inter_token;
};

struct KeyState {
  explicit KeyState(int64_t now_ns) : rate({}, now_ns) {}
  net::RateLimit rate;
  int64_t open = 0;  // requests
};

struct GatewayState {
  std::shared_ptr<const RouteIndex> index;
  std::unordered_map<std::string, std::shared_ptr<EndpointState>> endpoints;  // by id
  std::unordered_map<std::string, std::shared_ptr<KeyState>> keys;            // by id
  std::list<GatewayRequest*> requests;                                        // borrowed: all that are open
  Budgets budgets;
  net::HttpClient* client = nullptr;
  boost::asio::any_io_executor executor;
  UsageSink* usage = nullptr;
  bool flush_posted = false;  // of the sink
  std::function<void(const std::string&)> on_wake;
  std::chrono::milliseconds wake_ping{};
  int64_t held = 0;                                  // of all endpoints
  int64_t shadows = 0;                               // copies under way
  std::list<net::ClientExchange*> shadow_exchanges;  // borrowed
};

// The key that a request brings; notes its digest in the request. Throws Error{unauthenticated} for none, an unknown, revoked or expired
// one, and Error{permission_denied} for one that may not do this or not from there.
const KeyRoute& authenticate(const RouteIndex& index, net::Request& request);
// The same for a request whose key was good once, by the digest.
const KeyRoute& authenticate_again(const RouteIndex& index, const net::Request& request);
bool is_valid(const RouteIndex& index, const net::Request& request);

// The Error of a limit that is used up, after Retry-After was put into the answer.
void take_request(net::RateLimit& rate, net::Response& response);

}  // namespace neutrino::cloud
