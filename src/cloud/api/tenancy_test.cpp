// Two workspaces: whatever one has, the other finds nothing there and changes nothing, on every route and method. And the same test
// against a collection that forgot whose its rows are, which it must notice.
#include <gtest/gtest.h>

#include <map>

#include "cloud/api/collection.h"
#include "cloud/testing/api_server.h"

namespace neutrino::cloud {
namespace {

using store::Transaction;
using testing::ApiServer;
using testing::Reply;

constexpr std::string_view kChat = R"({"deployments": [{"model": "m-1000"}]})";

void fill(ApiServer& server) {
  const Tables& tables = server.tables();
  for (const std::string workspace : {"a", "b"}) {
    server.add_workspace(workspace);
    const std::string admin = server.add_key(workspace, Role::admin);
    for (int i = 0; i < 2; ++i)
      server.get(server.call("PUT", fmt::format("/api/v1/endpoints/{}-chat-{}", workspace, i), admin, kChat),
                 201);
    const std::string id = workspace + "-main";
    server.insert(tables.deployments, Deployment{.id = id, .endpoint = workspace, .workspace = workspace});
    server.insert(tables.replicas,
                  Replica{.id = id + "-1", .deployment = id, .endpoint = workspace, .workspace = workspace});
    server.insert(tables.events,
                  EventRow{.id = workspace == "a" ? 1 : 2, .workspace = workspace, .replica = id + "-1"});
    server.insert(tables.node_groups, NodeGroup{.name = workspace + "-group", .workspaces = {workspace}});
    server.insert(tables.nodes, Node{.name = workspace + "-node", .node_group = workspace + "-group"});
    server.insert(
        tables.secrets,
        Secret{.id = workspace + "-secret", .workspace = workspace, .name = "token", .sealed = "x"});
    const std::string member = workspace + "-member";
    server.insert(tables.members,
                  Member{.id = member, .workspace = workspace, .email = "ada@" + workspace + ".org"});
    server.insert(
        tables.budgets,
        Budget{.id = workspace + "-budget", .workspace = workspace, .name = "all", .subject = "workspace"});
    server.insert(tables.usage,
                  UsageRow{.id = workspace + "-request", .workspace = workspace, .member = member});
    server.insert(tables.usage_hours, UsageHour{.workspace = workspace, .member = member});
    server.insert(tables.machine_hours, MachineHour{.workspace = workspace, .replica = id + "-1"});
  }
}

using Ids = std::map<std::string, std::string>;  // and the collection that each is of

template <typename T>
void add_keys(ApiServer& server, const store::Table<T>& rows, std::string_view key, const std::string& path,
              Ids& ids) {
  server.database().read([&](Transaction& tx) {
    for (const T& row : rows.list(tx, {.limit = 1000}).rows) {
      const std::string* workspace = field_named<std::string>(row, "workspace");
      const std::string* id = field_named<std::string>(row, key);
      if (id && (workspace ? *workspace == "a" : id->starts_with("a-"))) ids[*id] = path;
    }
  });
}

// The ids of all that the workspace a has.
Ids ids_of_a(ApiServer& server) {
  const Tables& tables = server.tables();
  Ids ids;
  add_keys(server, tables.endpoints, "id", "/api/v1/endpoints", ids);
  add_keys(server, tables.deployments, "id", "/api/v1/", ids);
  add_keys(server, tables.replicas, "id", "/api/v1/replicas", ids);
  add_keys(server, tables.keys, "id", "/api/v1/keys", ids);
  add_keys(server, tables.secrets, "id", "/api/v1/secrets", ids);
  add_keys(server, tables.members, "id", "/api/v1/members", ids);
  add_keys(server, tables.budgets, "id", "/api/v1/budgets", ids);
  add_keys(server, tables.usage, "id", "/api/v1/usage", ids);
  add_keys(server, tables.nodes, "name", "/api/v1/nodes", ids);
  add_keys(server, tables.node_groups, "name", "/api/v1/node-groups", ids);
  return ids;
}

// All rows of all tables but those that a refused call may add to.
std::string contents(ApiServer& server) {
  return server.database().read([](Transaction& tx) {
    std::string text;
    for (const store::TableShape& table : tx.tables()) {
      if (table.name == "audit" || table.name == "store_idempotency_keys" || table.name == "store_writers")
        continue;
      text += table.name + "\n";
      for (const store::Row& row : tx.query("SELECT * FROM " + table.name + " ORDER BY 1, 2").rows)
        text += store::join_key(row) + "\n";
    }
    return text;
  });
}

std::string path_with(std::string_view pattern, std::string_view id) {
  const size_t open = pattern.find('{');
  return std::string(pattern.substr(0, open)) + std::string(id) +
         std::string(pattern.substr(pattern.find('}') + 1));
}

// What b found or changed of a's.
std::vector<std::string> intrusions(ApiServer& server) {
  const std::string admin = server.add_key("b", Role::admin);
  const Ids ids = ids_of_a(server);
  EXPECT_GE(ids.size(), 7u);
  const std::string before = contents(server);
  std::vector<std::string> found;
  const auto ask = [&](const ApiRoute& route, const std::string& path) {
    const bool writes = route.spec.method != net::Method::get && route.spec.method != net::Method::delete_;
    return server.call(net::method_name(route.spec.method), path, admin, writes ? kChat : "");
  };
  for (const ApiRoute& route : server.table) {
    const bool has_id = route.spec.path.find('{') != std::string_view::npos;
    if (route.needs == Needs::platform || route.needs == Needs::nothing ||
        (!has_id && route.spec.method != net::Method::get))
      continue;
    if (!has_id) {
      const Reply list = ask(route, std::string(route.spec.path));
      for (const auto& [id, of] : ids)
        if (list.body.find('"' + id + '"') != std::string::npos)
          found.push_back(fmt::format("{} shows {}", route.spec.path, id));
    }
    for (const auto& [id, of] : has_id ? ids : Ids()) {
      // Under an id of another kind PUT makes an object of that name, in the caller's own workspace.
      if (route.spec.method == net::Method::put && !route.spec.path.starts_with(of + "/{")) continue;
      const Reply reply = ask(route, path_with(route.spec.path, id));
      if (reply.status != 404)
        found.push_back(fmt::format("{} {} {}: {}", net::method_name(route.spec.method), route.spec.path, id,
                                    reply.status));
    }
  }
  if (contents(server) != before) found.emplace_back("the database has changed");
  return found;
}

class TenancyTest : public store::testing::OnBothEngines {};

TEST_P(TenancyTest, nobody_sees_or_touches_what_is_anothers) {
  ApiServer server(new_url());
  fill(server);
  EXPECT_EQ(intrusions(server), std::vector<std::string>());
  const std::string a = server.add_key("a", Role::admin), b = server.add_key("b", Role::admin);
  const auto nodes = [&](const std::string& key) {
    return server.call("GET", "/api/v1/nodes?fields=name", key).body;
  };
  EXPECT_NE(nodes(a).find("a-node"), std::string::npos);
  EXPECT_NE(nodes(b).find("b-node"), std::string::npos);
  const Reply own = server.call("GET", "/api/v1/endpoints/b-chat-0", b);
  EXPECT_EQ(own.status, 200);
  EXPECT_EQ(server.call("GET", "/api/v1/endpoints/a-chat-0", b).status, 404);
  EXPECT_EQ(server.call("GET", "/api/v1/workspaces/a", b).status, 404);
  EXPECT_EQ(server.call("GET", "/api/v1/workspaces/b", b).status, 200);
}

NEUTRINO_ON_BOTH_ENGINES(TenancyTest);

// Endpoints without the field that says whose they are.
struct LooseEndpoint {
  std::string id;
  std::string name;
  bool paused = false;
  int64_t etag = 0;
  static constexpr auto fields() {
    using E = LooseEndpoint;
    return std::tuple(field("id", &E::id, {.key = true, .read_only = true}),
                      field("name", &E::name, {.immutable = true}), field("paused", &E::paused),
                      field("etag", &E::etag, {.read_only = true}));
  }
};

TEST(Tenancy, the_test_above_notices_a_collection_that_forgot_whose_its_rows_are) {
  const store::Table<LooseEndpoint> loose({.name = "endpoints", .kind = "endpoint"});
  ApiServer server("", [&](const ApiServices& services) {
    std::vector<ApiRoute> table = all_api_routes(services);
    std::erase_if(table, [](const ApiRoute& route) {
      return route.spec.path == "/api/v1/endpoints/{id}" && route.spec.method == net::Method::delete_;
    });
    const Collection<LooseEndpoint> endpoints{.path = "/api/v1/endpoints",
                                              .item_path = "/api/v1/endpoints/{id}",
                                              .noun = "endpoint",
                                              .rows = loose};
    for (ApiRoute& route : collection_routes(endpoints))
      if (route.spec.method == net::Method::delete_) table.push_back(std::move(route));
    return table;
  });
  fill(server);
  const std::vector<std::string> found = intrusions(server);
  EXPECT_EQ(found.size(), 3u) << "two endpoints deleted, and so a changed database";
}

}  // namespace
}  // namespace neutrino::cloud
