// What gateways and the control plane tell each other: route tables one way, reports and usage the other.
//
// The gateway asks, over HTTP on loopback, with a token that both read from a file:
//   GET  /internal/v1/gateways/{id}/routes?version=N   the newest table, once it is another than N (long poll; 204 after a while)
//   POST /internal/v1/gateways/{id}/report             what goes on, and endpoints that requests wait for
//   POST /internal/v1/gateways/{id}/usage              usage records; the answer says which may be forgotten
// Either side may be away. The gateway goes on with the last table, which it also keeps on disk, and keeps its records; nothing
// here has to arrive in time but a wake.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cloud/gateway.h"
#include "cloud/publisher.h"
#include "cloud/usage_journal.h"
#include "net/client.h"
#include "net/route.h"
#include "net/server.h"
#include "net/workers.h"

namespace neutrino::cloud {

// ---- the control plane's side

struct LinkServices {
  RouteBoard& routes;
  std::function<void(const std::string& gateway, GatewayReport report, std::vector<std::string> wakes)>
      report;
  // Counts the records that the gateway's journal has after a sequence number, and returns up to which all are counted. On a worker.
  std::function<int64_t(const std::string& gateway, int64_t after, std::vector<UsageRecord> records)> count;
};

class LinkServer {
 public:
  // `server` gets its routes here, is run by the caller and outlives this.
  LinkServer(net::HttpServer& server, net::Workers& workers, LinkServices services, std::string token);
  ~LinkServer();  // after run() has returned
  LinkServer(const LinkServer&) = delete;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;  // it ends before the server's executor does
};

// ---- the gateway's side

struct GatewayLinkOptions {
  net::ClientAddress control_plane;
  std::string token;
  std::filesystem::path folder;  // for the last table
  std::chrono::milliseconds report_period{250};
};

class GatewayLink {
 public:
  // Gives the gateway the table that was kept, if there is one. Throws Error for a folder that cannot be used.
  GatewayLink(Gateway& gateway, UsageJournal& journal, GatewayLinkOptions options);
  ~GatewayLink();  // sends what usage it can within a second
  GatewayLink(const GatewayLink&) = delete;

  void wake(const std::string& endpoint);  // any thread: tells at once that a request waits for it

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// A file's secret: made of 256 random bits with mode 0600 if it is not there. Throws Error if others may read it.
std::string file_token(const std::filesystem::path& file);

}  // namespace neutrino::cloud
