// One URL in front of all endpoints: key → limits and budget → hold or route → stream → meter.
//
// An OpenAI-compatible server whose answers come from replicas. `/v1/...` finds the endpoint by the request's `model` (an endpoint's
// name, an alias, an adapter), `/endpoints/{name}/v1/...` by its path; any path that a replica serves goes through, and answers are
// not buffered. What it knows comes as a RouteTable; it does without the control plane for as long as need be.
// A request for an endpoint without a ready replica is held: in a bounded queue (429), until a deadline (503), with SSE comments for
// a stream meanwhile. It is sent to another replica only if no byte of an answer has come and doing it twice does no harm.
//
// One io thread, as net::HttpServer; set_routes(), report() and drain() may be called from any.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fields.h"
#include "cloud/limits.h"
#include "cloud/route_table.h"
#include "cloud/usage_journal.h"
#include "net/server.h"

namespace neutrino::cloud {

// What the autoscaler looks at. Percentiles are over the last seconds; absent: nothing ended in them.
struct EndpointSignals {
  std::string endpoint;            // id
  int64_t requests_in_flight = 0;  // at replicas
  int64_t tokens_in_flight = 0;    // of these: prompts and expected answers, estimated
  int64_t requests_held = 0;
  int64_t tokens_held = 0;
  int64_t requests_started = 0;  // that arrived since this gateway started
  int64_t requests_per_minute = 0;
  std::optional<double> time_to_first_token_p90_ms;
  std::optional<double> inter_token_latency_p90_ms;
  int64_t last_request_ms = 0;  // Unix time; 0: none yet
  static constexpr auto fields() {
    using S = EndpointSignals;
    return std::tuple(field("endpoint", &S::endpoint), field("requests_in_flight", &S::requests_in_flight),
                      field("tokens_in_flight", &S::tokens_in_flight),
                      field("requests_held", &S::requests_held), field("tokens_held", &S::tokens_held),
                      field("requests_started", &S::requests_started),
                      field("requests_per_minute", &S::requests_per_minute),
                      field("time_to_first_token_p90_ms", &S::time_to_first_token_p90_ms),
                      field("inter_token_latency_p90_ms", &S::inter_token_latency_p90_ms),
                      field("last_request_ms", &S::last_request_ms));
  }
};

// A replica that requests are at.
struct ReplicaUse {
  std::string replica;
  int64_t requests = 0;
  int64_t tokens = 0;
  static constexpr auto fields() {
    return std::tuple(field("replica", &ReplicaUse::replica), field("requests", &ReplicaUse::requests),
                      field("tokens", &ReplicaUse::tokens));
  }
};

// A moment of the gateway: what it routes by, and what goes on.
struct GatewayReport {
  int64_t version = 0;  // of the route table
  std::vector<EndpointSignals> endpoints;
  std::vector<ReplicaUse> replicas;  // that are in use; a replica of the table that is not named here is idle
  static constexpr auto fields() {
    using R = GatewayReport;
    return std::tuple(field("version", &R::version), field("endpoints", &R::endpoints),
                      field("replicas", &R::replicas));
  }
};

struct GatewayOptions {
  net::ServerOptions server;   // without keys: those come with the route table
  UsageSink* usage = nullptr;  // borrowed; null: nothing is recorded
  // An endpoint's id, on the io thread: a request waits for a replica of it; about once a second while one does.
  std::function<void(const std::string& endpoint)> on_wake;
  std::chrono::milliseconds wake_ping{limits::kWakePingMilliseconds};
};

class Gateway {
 public:
  explicit Gateway(GatewayOptions options);
  ~Gateway();

  // Takes effect at once, for open streams too: a key that is not in it any more ends them. Throws Error for a table that
  // contradicts itself, and keeps the one before.
  void set_routes(RouteTable table);
  GatewayReport report() const;  // at most 250 ms old

  void listen();  // throws Error{unavailable} that names a busy port
  int port() const;
  void run();  // serves on this thread until drain() is through
  void drain(std::chrono::milliseconds grace);
  net::HttpServer& server();  // for on_stop(), spawn(): before run()

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neutrino::cloud
