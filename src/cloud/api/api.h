// The cloud's own REST API, `/api/v1`: what a route of it is, and who may call it.
//
// A handler is a function from a call to an answer inside one transaction; it is run on a worker. Around it, once for all routes:
// who calls and whether that role may, bodies as JSON, `?dry_run=true` (the transaction is undone), `Idempotency-Key` (the first answer
// again), the audit log in the same transaction as the change, errors with the field's path. So a handler is only its subject.
//
// A caller is of one workspace. Session tokens choose it by the header X-Workspace (its name or id); an API key has its own. What is
// another workspace's is not there: 404.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "cloud/provider.h"
#include "cloud/schema.h"
#include "cloud/tenants.h"
#include "net/request.h"
#include "net/response.h"
#include "net/route.h"
#include "net/workers.h"
#include "store/change_log.h"
#include "store/database.h"

namespace neutrino::cloud {

namespace asio = boost::asio;
class OidcProvider;
class SecretBox;

struct Caller {
  std::string workspace;  // id; empty: has signed in, and is a member of none
  Role role = Role::viewer;
  bool platform = false;
  std::string actor;   // "member:ada@example.org", "key:ci": for the audit log
  std::string member;  // id; empty: a key of the workspace itself
  std::string key;     // id; empty: a session
  std::string email;   // of a session
};

// The least that a route asks of its caller. `platform`: that flag, whatever the role.
enum class Needs : uint8_t { nothing, viewer, user, admin, platform };

struct ApiCall {
  const net::Request& http;
  Caller caller;
  json::value body;                          // null: there was none
  std::map<std::string, std::string> query;  // decoded
  int64_t now_ms = 0;                        // Unix time
  json::object prepared;                     // what prepare() found out
  net::Workers* workers = nullptr;           // for what blocks, in a raw handler
  std::function<void()> check_caller = {};   // blocks; throws once the caller may not call this any more

  std::string_view id() const { return http.parameter; }  // of the path
};

struct ApiAnswer {
  int status = 200;
  json::value body;  // null: none
  std::string text;  // instead of `body`, with its type
  std::string_view content_type = "application/json";
  std::vector<net::Header> headers;
};

// What handlers use. References outlive the server.
struct ApiServices {
  store::Database& database;
  const Tables& tables;
  store::ChangeLog& changes;
  const SecretBox& secrets;
  const Clock& clock;
  std::function<LogChunk(const std::string& replica, int64_t cursor, int64_t bytes_max)> read_log;
  // Bytes that a replica of a model needs with these arguments of `neutrino serve`. Throws Error{invalid_argument} for a model that
  // is not there.
  std::function<int64_t(const std::string& model, const std::vector<std::string>& arguments)> predict_memory;
  OidcProvider* oidc = nullptr;  // null: nobody signs in that way
};

struct ApiRoute {
  net::RouteSpec spec;  // .auth is set for all of them by api_routes()
  Needs needs = Needs::platform;
  // GET and HEAD get a reader's transaction, others the writer's.
  std::function<ApiAnswer(ApiCall&, store::Transaction&)> handle;
  std::function<void(ApiCall&)> prepare = {};  // before the transaction: what takes long, or asks others
  // Instead of handle(): what waits or streams, on the io thread. Its caller was checked, and prepare() was called.
  std::function<asio::awaitable<void>(ApiCall&, net::Response&)> raw = {};
  int answer_status = 200;  // of a success, for /api/v1/openapi.json
};

// One function a subject, in the file of its name; api_routes() joins them.
std::vector<ApiRoute> tenant_api(const ApiServices& services);    // workspaces, members, keys, secrets
std::vector<ApiRoute> endpoint_api(const ApiServices& services);  // endpoints, revisions
std::vector<ApiRoute> replica_api(const ApiServices& services);   // replicas, their logs
std::vector<ApiRoute> fleet_api(const ApiServices& services);     // nodes, node groups, shapes
std::vector<ApiRoute> record_api(const ApiServices& services);    // events, audit, changes (watch)
std::vector<ApiRoute> usage_api(
    const ApiServices& services);  // what was used: requests, hours, sums, machines
std::vector<ApiRoute> spending_api(const ApiServices& services);  // prices, budgets
std::vector<ApiRoute> login_api(const ApiServices& services);     // one-time key, OIDC, who am I

}  // namespace neutrino::cloud
