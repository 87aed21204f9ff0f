// Who may call what: every route of the table, with every method, by every kind of caller. A new route is in here by being in the
// table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "base/file.h"
#include "server/request_log.h"
#include "server/routes.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::AuthPolicy;
using net::Scope;
using net::Scopes;
using net::testing::RawClient;
using net::testing::Reply;

constexpr std::string_view kChat = "/v1/chat/completions";
constexpr std::string_view kMethods[] = {"GET",    "HEAD",    "POST",  "PUT",     "PATCH",
                                         "DELETE", "OPTIONS", "TRACE", "PROPFIND"};

struct Caller {
  std::string_view key;  // empty: none; "wrong": an unknown one
  Scopes scopes = {};
};

const std::vector<Caller> kCallers = {
    {""},
    {"wrong"},
    {"app-key", Scopes().with(Scope::inference)},
    {"scraper-key", Scopes().with(Scope::metrics)},
    {"ops-key", Scopes().with(Scope::admin)},
    {"all-key", net::kAllScopes},
};

ReplicaOptions guarded(bool metrics_open = false) {
  ReplicaOptions options;
  for (const Caller& caller : kCallers)
    if (caller.scopes.bits != 0) options.http.keys.add(std::string(caller.key), caller.key, caller.scopes);
  options.http.metrics_open = metrics_open;
  return options;
}

// "/v1/models/{id}" -> "/v1/models/x"
std::string some_path(std::string_view pattern) {
  std::string path(pattern);
  for (size_t open; (open = path.find('{')) != std::string::npos;)
    path.replace(open, path.find('}', open) - open + 1, "x");
  return path;
}

bool knows(const Caller& caller) { return caller.scopes.bits != 0; }

// The table's own word on a method of a path; nullptr: it has none.
const ServerRoute* route_of(std::string_view path, std::string_view method) {
  for (const ServerRoute& route : route_table())
    if (route.spec.path == path && (net::method_name(route.spec.method) == method ||
                                    (route.spec.method == net::Method::get && method == "HEAD")))
      return &route;
  return nullptr;
}

// What must come out: 401, 403, 405, 204 for OPTIONS, or 0 for "the handler's business".
int expected(std::string_view path, std::string_view method, const Caller& caller, bool metrics_open) {
  const ServerRoute* route = route_of(path, method);
  AuthPolicy policy = route ? route->spec.auth : AuthPolicy::deny;
  if (method == "OPTIONS" && !route)  // as open as all that stands at the path
    for (const ServerRoute& other : route_table())
      if (other.spec.path == path)
        policy = policy == AuthPolicy::deny || policy == AuthPolicy::open ? other.spec.auth : policy;
  const bool open = policy == AuthPolicy::open || (policy == AuthPolicy::metrics && metrics_open);
  if (!open && !knows(caller)) return 401;
  if (route && !open && !caller.scopes.has(required_scope(policy))) return 403;
  if (method == "OPTIONS" && !route) return 204;
  return route ? 0 : 405;
}

// Without a body: a handler that needs one says 400, which is its business, and no request reaches the model.
Reply call(int port, std::string_view method, std::string_view path, std::string_view credentials) {
  RawClient client(port);
  client.send(fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{}\r\n", method, path,
                          credentials));
  return client.read_reply(method == "HEAD");
}

std::vector<std::string> carriers(std::string_view key) {
  if (key.empty())
    return {"", "Cookie: key=all-key\r\n", "Authorization: Basic all-key\r\n", "api-key: all-key\r\n"};
  return {fmt::format("Authorization: Bearer {}\r\n", key), fmt::format("x-api-key: {}\r\n", key)};
}

void expect_error(const Reply& reply, std::string_view method, const std::string& what) {
  if (method == "HEAD") return;
  const std::pair<int, std::string_view> codes[] = {
      {401, "invalid_api_key"}, {403, "insufficient_scope"}, {405, "method_not_allowed"}};
  for (const auto& [status, code] : codes)
    if (reply.status == status && parse_json(reply.body).at("error").as_object().contains("code")) {
      EXPECT_EQ(parse_json(reply.body).at("error").at("code"), json::string(code)) << what;
    }
}

void walk(bool metrics_open) {
  TestReplica replica(guarded(metrics_open));
  std::set<std::string_view> paths;
  for (const ServerRoute& route : route_table()) paths.insert(route.spec.path);
  int reached = 0;
  for (const std::string_view path : paths)
    for (const std::string_view method : kMethods)
      for (const Caller& caller : kCallers)
        for (const std::string& carrier : carriers(caller.key)) {
          const std::string what = fmt::format("{} {} by {}", method, path, carrier);
          const Reply reply = call(replica.port(), method, some_path(path), carrier);
          const int status = expected(path, method, caller, metrics_open);
          if (status != 0) {
            EXPECT_EQ(reply.status, status) << what;
          } else {
            ++reached;
            EXPECT_THAT(reply.status, ::testing::Not(::testing::AnyOf(0, 401, 403, 405, 500))) << what;
          }
          if (reply.status == 405 || reply.status == 204) {
            EXPECT_THAT(reply.headers.at("allow"), ::testing::HasSubstr("OPTIONS")) << what;
          }
          EXPECT_EQ(reply.status == 401, reply.headers.contains("www-authenticate")) << what;
          expect_error(reply, method, what);
        }
  EXPECT_GT(reached, static_cast<int>(route_table().size()));  // the right callers do get in
  EXPECT_TRUE(replica.model().requests().empty());
}

TEST(Access, EveryRouteMethodAndCaller) { walk(false); }

TEST(Access, OpenMetricsOpenTheMetricsAlone) { walk(true); }

TEST(Access, AnUnknownPathSaysNothingWithoutAKey) {
  TestReplica replica(guarded());
  for (const std::string_view method : kMethods) {
    EXPECT_EQ(call(replica.port(), method, "/v1/nothing", "").status, 401) << method;
    EXPECT_EQ(call(replica.port(), method, "/v1/nothing", "x-api-key: scraper-key\r\n").status, 404)
        << method;
  }
}

TEST(Access, HeadAnswersAsGetWithoutABody) {
  TestReplica replica;
  for (const ServerRoute& route : route_table()) {
    if (route.spec.method != net::Method::get) continue;
    const std::string path = some_path(route.spec.path);
    const Reply get = call(replica.port(), "GET", path, ""), head = call(replica.port(), "HEAD", path, "");
    EXPECT_EQ(head.status, get.status) << path;
    EXPECT_EQ(head.headers.at("content-type"), get.headers.at("content-type")) << path;
    EXPECT_TRUE(head.headers.contains("content-length")) << path;
    EXPECT_TRUE(head.body.empty());
  }
}

TEST(Access, EachKeyHasItsOwnPrefixCache) {
  TestReplica replica(guarded());
  const auto ask = [&](std::string_view key, std::string_view more) {
    EXPECT_EQ(replica.post(kChat, chat_body(more), fmt::format("x-api-key: {}\r\n", key)).status, 200);
    return replica.model().requests().back().cache_salt;
  };
  const std::string app = ask("app-key", ""), all = ask("all-key", "");
  EXPECT_EQ(ask("app-key", ""), app);
  EXPECT_NE(app, all);
  const std::string salted = ask("app-key", R"("cache_salt":"tenant-7")");
  EXPECT_NE(salted, app);
  EXPECT_EQ(ask("app-key", R"("cache_salt":"tenant-7")"), salted);
  EXPECT_NE(ask("all-key", R"("cache_salt":"tenant-7")"), salted);  // a salt that leaked opens nothing
  for (const std::string& salt : {app, all, salted}) EXPECT_EQ(salt.find("key"), std::string::npos);
}

TEST(Access, WithoutKeysAllShareOnePrefixCacheUnlessTheyAskOtherwise) {
  TestReplica replica;
  replica.post(kChat, chat_body());
  replica.post(kChat, chat_body(R"("cache_salt":"mine")"));
  ASSERT_EQ(replica.model().requests().size(), 2U);
  EXPECT_EQ(replica.model().requests()[0].cache_salt, "");
  EXPECT_NE(replica.model().requests()[1].cache_salt, "");
}

class LogFiles {
 public:
  LogFiles() { std::filesystem::create_directory(folder_); }
  ~LogFiles() { std::filesystem::remove_all(folder_); }
  std::filesystem::path at(std::string_view name) const { return folder_ / name; }
  std::vector<json::object> lines(std::string_view name) const {
    std::vector<json::object> result;
    std::string text = read_file(at(name), 1 << 20);
    for (size_t end; (end = text.find('\n')) != std::string::npos; text.erase(0, end + 1))
      result.push_back(parse_json(text.substr(0, end)).as_object());
    return result;
  }

 private:
  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / fmt::format("neutrino-audit-{}", getpid());
};

TEST(Audit, OneLinePerAdminCallWithWhoAndWhatCameOfIt) {
  const LogFiles files;
  const net::RouteSpec admin{.method = net::Method::post, .path = "/sleep", .auth = AuthPolicy::admin};
  const net::RouteSpec other{.method = net::Method::post, .path = kChat, .auth = AuthPolicy::inference};
  net::Request request{.method = net::Method::post,
                       .path = "/sleep",
                       .query = "level=1",
                       .id = "r-1",
                       .key_name = "ops",
                       .peer = "10.0.0.7:4711",
                       .route = &admin};
  Metrics metrics;
  {
    RequestLog log(metrics, files.at("requests"), files.at("audit"));
    log.record(request, {.status = 200});
    request.key_name = "app";
    log.record(request, {.status = 403, .error = "insufficient_scope"});
    request.route = &other;
    log.record(request, {.status = 200});
  }
  EXPECT_EQ(files.lines("requests").size(), 3U);
  const auto lines = files.lines("audit");
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_EQ(lines[0].at("audit"), "admin_call");
  EXPECT_EQ(lines[0].at("key"), "ops");
  EXPECT_EQ(lines[0].at("peer"), "10.0.0.7:4711");
  EXPECT_EQ(lines[0].at("path"), "/sleep?level=1");
  EXPECT_EQ(lines[0].at("id"), "r-1");
  EXPECT_EQ(lines[0].at("status"), 200);
  EXPECT_EQ(lines[1].at("key"), "app");
  EXPECT_EQ(lines[1].at("error"), "insufficient_scope");
}

TEST(Audit, WithoutAFileOfItsOwnItIsInTheRequestLog) {
  const LogFiles files;
  const net::RouteSpec admin{.method = net::Method::post, .path = "/sleep", .auth = AuthPolicy::admin};
  Metrics metrics;
  RequestLog(metrics, files.at("requests")).record({.path = "/sleep", .route = &admin}, {.status = 200});
  EXPECT_EQ(files.lines("requests").size(), 2U);
  EXPECT_THROW(RequestLog(metrics, std::nullopt, "/nowhere/audit"), Error);
}

}  // namespace
}  // namespace neutrino::server::testing
