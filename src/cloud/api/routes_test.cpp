// What is done around every handler: who may call, dry runs, idempotency keys, conditions, the audit log. By walking the route table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <mutex>

#include "cloud/testing/api_server.h"

namespace neutrino::cloud {
namespace {

using testing::ApiServer;
using ::testing::HasSubstr;
using testing::refusal;
using testing::Reply;

constexpr std::string_view kChat = R"({"name": "chat", "deployments": [{"model": "m-1000"}]})";

std::string path_with(std::string_view pattern, std::string_view id) {
  const size_t open = pattern.find('{');
  if (open == std::string_view::npos) return std::string(pattern);
  return std::string(pattern.substr(0, open)) + std::string(id) +
         std::string(pattern.substr(pattern.find('}') + 1));
}

class RoutesTest : public store::testing::OnBothEngines {
 protected:
  void SetUp() override {
    server.emplace(new_url());
    server->add_workspace("w");
  }
  int64_t count(const auto& rows) {
    return server->database().read([&](store::Transaction& tx) { return rows.count(tx); });
  }
  std::optional<ApiServer> server;
};

struct Credential {
  std::string_view what;
  std::string key;
  std::string_view expected;  // "401 revoked_key"; empty: it may call
};

TEST_P(RoutesTest, who_may_call_each_route_by_each_method) {
  const int64_t past = SystemClock().unix_ms() - 1;
  const auto key = [&](KeyRow row) {
    row.workspace = "w";
    if (row.api_role.empty()) row.api_role = "admin";
    return server->add_key(std::move(row));
  };
  const std::vector<Credential> bad = {
      {"no key", "", "401 missing_key"},
      {"a stranger's key", make_key(KeyKind::api_key).text, "401 unknown_key"},
      {"a mistyped key", "nk-0000", "401 malformed_key"},
      {"an expired key", key({.platform = true, .expires_ms = past}), "401 expired_key"},
      {"a revoked key", key({.platform = true, .revoked_ms = past}), "401 revoked_key"},
      {"another's address", key({.platform = true, .limits = {.addresses = {"10.0.0.0/8"}}}),
       "403 address_not_allowed"},
      {"a key for inference", server->add_key(KeyRow{.workspace = "w"}), "403 insufficient_scope"},
  };
  const std::string by_role[] = {server->add_key("w", Role::viewer), server->add_key("w", Role::user),
                                 server->add_key("w", Role::admin), server->add_key("w", Role::viewer, true)};
  int64_t forbidden = 0, walked = 0;
  for (const ApiRoute& route : server->table) {
    if (route.needs == Needs::nothing) continue;  // signing in
    const std::string path = path_with(route.spec.path, "x1");
    std::vector<std::string> methods{std::string(net::method_name(route.spec.method))};
    if (route.spec.method == net::Method::get) methods.emplace_back("HEAD");
    const bool writes = route.spec.method != net::Method::get && route.spec.method != net::Method::delete_;
    for (const std::string& method : methods) {
      const auto ask = [&](const std::string& with) {
        return server->call(method, path, with, writes ? "{}" : "");
      };
      const auto told = [&](const Reply& reply) {
        return method == "HEAD" ? fmt::format("{}", reply.status)
                                : refusal(reply).substr(0, refusal(reply).rfind(' '));
      };
      for (const Credential& one : bad) {
        EXPECT_EQ(told(ask(one.key)), method == "HEAD" ? one.expected.substr(0, 3) : one.expected)
            << method << " " << path << " with " << one.what;
        forbidden += one.expected.starts_with("403");
      }
      for (size_t role = 0; role < 4; ++role) {
        const bool is_platform = role == 3;
        const bool may = route.needs == Needs::platform ? is_platform
                                                        : (is_platform ? 0 : static_cast<int>(role)) >=
                                                              static_cast<int>(route.needs) - 1;
        const Reply reply = ask(by_role[role]);
        EXPECT_EQ(reply.status != 401 && reply.status != 403, may)
            << method << " " << path << " with role " << role << ": " << reply.body;
        forbidden += !may;
      }
      ++walked;
    }
  }
  EXPECT_GT(walked, 35);
  EXPECT_EQ(server->database().read([&](store::Transaction& tx) {
    return server->tables().audit.count(
        tx, {{.field = "status", .value = int64_t{403}}, {.field = "workspace", .value = std::string("w")}});
  }),
            forbidden)
      << "each refusal for want of a permission is in the audit log";
}

TEST_P(RoutesTest, a_method_that_is_not_in_the_table_is_refused) {
  const std::string admin = server->add_key("w", Role::admin, true);
  EXPECT_EQ(refusal(server->call("DELETE", "/api/v1/endpoints", admin)), "405 method_not_allowed -");
  EXPECT_EQ(refusal(server->call("PUT", "/api/v1/nodes/x", admin, "{}")), "405 method_not_allowed -");
  EXPECT_EQ(refusal(server->call("GET", "/api/v1/nothing", admin)), "404 route_not_found -");
}

TEST_P(RoutesTest, a_dry_run_answers_what_would_be_and_changes_nothing) {
  const std::string user = server->add_key("w", Role::user);
  EXPECT_EQ(server->call("POST", "/api/v1/endpoints?dry_run=true", user, kChat).status, 201);
  EXPECT_EQ(
      count(server->tables().endpoints) + count(server->tables().revisions) + count(server->tables().audit),
      0);
  EXPECT_EQ(server->call("POST", "/api/v1/endpoints", user, kChat).status, 201);
  const json::object before = server->get(server->call("GET", "/api/v1/endpoints/chat", user));
  const json::object would_be =
      server->get(server->call("PATCH", "/api/v1/endpoints/chat?dry_run=true", user, R"({"paused": true})"));
  EXPECT_TRUE(would_be.at("paused").as_bool());
  EXPECT_EQ(server->call("DELETE", "/api/v1/endpoints/chat?dry_run=true", user).status, 204);
  EXPECT_EQ(server->call("POST", "/api/v1/endpoints?dry_run=true", user, kChat).status, 409);
  EXPECT_EQ(server->get(server->call("GET", "/api/v1/endpoints/chat", user)), before);
  EXPECT_EQ(refusal(server->call("DELETE", "/api/v1/endpoints/chat?dry_run=yes", user)),
            "400 invalid_value dry_run");
  EXPECT_EQ(refusal(server->call("DELETE", "/api/v1/endpoints/chat?dryrun=true", user)),
            "400 invalid_value dryrun");
}

TEST_P(RoutesTest, an_idempotency_key_gives_the_first_answer_again) {
  const std::string user = server->add_key("w", Role::user), other = server->add_key("w", Role::user);
  const std::string header = "Idempotency-Key: k1\r\n";
  const Reply first = server->call("POST", "/api/v1/endpoints", user, kChat, header);
  const Reply again = server->call("POST", "/api/v1/endpoints", user, kChat, header);
  EXPECT_EQ(first.status, 201);
  EXPECT_EQ(again.body, first.body);
  EXPECT_EQ(again.status, 201);
  EXPECT_EQ(again.headers.at("etag") + again.headers.at("location"),
            first.headers.at("etag") + first.headers.at("location"));
  EXPECT_EQ(again.headers.at("idempotent-replayed"), "true");
  EXPECT_EQ(count(server->tables().endpoints), 1);
  EXPECT_EQ(count(server->tables().audit), 1);
  const std::string reused = "409 idempotency_key_reused Idempotency-Key";
  EXPECT_EQ(refusal(server->call("POST", "/api/v1/endpoints", user, R"({"name": "b"})", header)), reused);
  EXPECT_EQ(refusal(server->call("POST", "/api/v1/endpoints", other, kChat, header)), reused)
      << "it was another's";
  EXPECT_EQ(refusal(server->call("DELETE", "/api/v1/endpoints/chat", user, "", header)), reused);
  const std::string stored = server->database().read([](store::Transaction& tx) {
    return store::as_text(tx.query_row("SELECT answer FROM store_idempotency_keys")->at(0), "answer");
  });
  EXPECT_EQ(stored.find("chat"), std::string::npos) << "answers may hold a new key, so they are sealed";
}

// Of many at once that ask for the same, one is the first.
TEST_P(RoutesTest, at_once_is_as_one_after_the_other) {
  const std::string user = server->add_key("w", Role::user);
  const auto statuses = [&](const std::string& headers) {
    std::map<int, int> counts;
    std::mutex mutex;
    std::vector<std::thread> clients;
    for (int i = 0; i < 8; ++i)
      clients.emplace_back([&] {
        const int status = server->call("POST", "/api/v1/endpoints", user, kChat, headers).status;
        const std::lock_guard lock(mutex);
        ++counts[status];
      });
    for (std::thread& client : clients) client.join();
    return counts;
  };
  EXPECT_EQ(statuses(""), (std::map<int, int>{{201, 1}, {409, 7}}));
  EXPECT_EQ(server->call("DELETE", "/api/v1/endpoints/chat", user).status, 204);
  EXPECT_EQ(statuses("Idempotency-Key: same\r\n"), (std::map<int, int>{{201, 8}}));
  EXPECT_EQ(count(server->tables().endpoints), 1);
}

TEST_P(RoutesTest, etags_are_conditions) {
  const std::string user = server->add_key("w", Role::user);
  const std::string etag = server->call("POST", "/api/v1/endpoints", user, kChat).headers.at("etag");
  const auto patch = [&](const std::string& headers) {
    return server->call("PATCH", "/api/v1/endpoints/chat", user, R"({"held_max": 7})", headers);
  };
  EXPECT_EQ(refusal(patch("If-Match: \"999\"\r\n")), "412 etag_mismatch -");
  EXPECT_EQ(refusal(server->call("DELETE", "/api/v1/endpoints/chat", user, "", "If-Match: \"999\"\r\n")),
            "412 etag_mismatch -");
  EXPECT_EQ(refusal(server->call("POST", "/api/v1/endpoints/chat/pause", user, "", "If-Match: \"999\"\r\n")),
            "412 etag_mismatch -");
  const Reply changed = patch("If-Match: " + etag + "\r\n");
  EXPECT_EQ(changed.status, 200);
  EXPECT_NE(changed.headers.at("etag"), etag);
  EXPECT_EQ(refusal(patch("If-Match: " + etag + "\r\n")), "412 etag_mismatch -") << "once is enough";
  EXPECT_EQ(patch("").headers.at("etag"), changed.headers.at("etag")) << "nothing new, so nothing changed";
  EXPECT_EQ(refusal(server->call("PATCH", "/api/v1/endpoints/chat", user, R"({"etag": 1, "held_max": 8})")),
            "412 etag_mismatch -");
  EXPECT_EQ(refusal(server->call("PUT", "/api/v1/endpoints/chat", user, kChat, "If-None-Match: *\r\n")),
            "412 etag_mismatch -");
  EXPECT_EQ(refusal(server->call("PUT", "/api/v1/endpoints/new", user, "{}", "If-Match: *\r\n")),
            "412 etag_mismatch -");
}

TEST_P(RoutesTest, what_cannot_change_is_said) {
  const std::string user = server->add_key("w", Role::user),
                    platform = server->add_key("w", Role::admin, true);
  server->call("POST", "/api/v1/endpoints", user, kChat);
  EXPECT_EQ(refusal(server->call("PATCH", "/api/v1/endpoints/chat", user, R"({"name": "talk"})")),
            "422 invalid_field name");
  EXPECT_EQ(refusal(server->call("PATCH", "/api/v1/endpoints/chat", user, R"({"created_ms": 1})")),
            "422 invalid_field created_ms");
  EXPECT_EQ(server->call("PUT", "/api/v1/shapes/s", platform, R"({"memory_bytes": 5000})").status, 201);
  EXPECT_EQ(server
                ->call("PATCH", "/api/v1/endpoints/chat", user,
                       R"({"deployments": [{"model": "m-1000", "shape": "s"}]})")
                .status,
            200);
  EXPECT_EQ(refusal(server->call("DELETE", "/api/v1/shapes/s", platform)), "409 in_use -");
  server->call("DELETE", "/api/v1/endpoints/chat", user);
  EXPECT_EQ(server->call("DELETE", "/api/v1/shapes/s", platform).status, 204);
  EXPECT_EQ(
      refusal(server->call("POST", "/api/v1/node-groups", platform, R"({"name": "g", "provider": "moon"})")),
      "422 invalid_field provider");
}

TEST_P(RoutesTest, the_audit_log_says_who_did_what) {
  const std::string user = server->add_key({.workspace = "w", .name = "ci", .api_role = "user"});
  server->call("POST", "/api/v1/endpoints", user, kChat);
  server->call("POST", "/api/v1/endpoints", user, kChat);  // a conflict: nothing changed
  server->call("PUT", "/api/v1/shapes/s", user, "{}");
  const std::string admin = server->add_key("w", Role::admin);
  const json::object log =
      server->get(server->call("GET", "/api/v1/audit?fields=actor,address,method,path,status", admin));
  EXPECT_EQ(
      to_text(log.at("items")),
      R"([{"actor":"key:ci","address":"127.0.0.1","method":"POST","path":"/api/v1/endpoints","status":201},)"
      R"({"actor":"key:ci","address":"127.0.0.1","method":"PUT","path":"/api/v1/shapes/s","status":403}])");
}

NEUTRINO_ON_BOTH_ENGINES(RoutesTest);

TEST(ApiDocument, describes_every_route) {
  ApiServer server;
  const json::object document = server.get(server.call("GET", "/api/v1/openapi.json", ""));
  const json::object& paths = document.at("paths").as_object();
  for (const ApiRoute& route : server.table) EXPECT_TRUE(paths.contains(route.spec.path)) << route.spec.path;
  const json::object& made = paths.at("/api/v1/endpoints").at("post").at("responses").as_object();
  EXPECT_TRUE(made.contains("201") && !made.contains("200"));
  const std::string text = to_text(paths.at("/api/v1/endpoints"));
  EXPECT_THAT(text, HasSubstr(R"("name":"dry_run")"));
  EXPECT_THAT(text, HasSubstr(R"("description":"further names of it")"));
  EXPECT_THAT(text, HasSubstr(R"("enum":["Ready","Starting")"));
  EXPECT_THAT(text, HasSubstr(R"("readOnly":true)"));
  EXPECT_EQ(to_text(paths.at("/api/v1/node-groups")).find("digest"), std::string::npos);
  EXPECT_EQ(server.call("GET", "/health", "").status, 200);
}

}  // namespace
}  // namespace neutrino::cloud
