// Nodes, node groups and shapes: the platform's, and what a workspace sees of them.
#include <gtest/gtest.h>

#include "cloud/testing/api_server.h"

namespace neutrino::cloud {
namespace {

using testing::ApiServer;

TEST(Fleet, a_workspace_sees_the_node_groups_that_it_may_use_and_not_who_else_may) {
  ApiServer server;
  for (const char* workspace : {"a", "b", "c"}) server.add_workspace(workspace);
  const std::string a = server.add_key("a", Role::admin), c = server.add_key("c", Role::admin),
                    platform = server.add_key("c", Role::viewer, true);
  const auto put = [&](std::string_view group, std::string_view body) {
    return server.call("PUT", fmt::format("/api/v1/node-groups/{}", group), platform, body).status;
  };
  EXPECT_EQ(put("shared", R"({"workspaces": ["a", "b"]})"), 201);
  EXPECT_EQ(put("open", "{}"), 201);
  EXPECT_EQ(put("none", R"({"workspaces": ["nobody"]})"), 422);
  server.insert(server.tables().nodes, Node{.name = "n-shared", .node_group = "shared"});
  server.insert(server.tables().nodes, Node{.name = "n-open", .node_group = "open"});
  const auto seen = [&](const std::string& key, std::string_view path) {
    return to_text(server.get(server.call("GET", fmt::format("/api/v1/{}", path), key)).at("items"));
  };
  const std::string_view groups = "node-groups?fields=name,workspaces", nodes = "nodes?fields=name";
  const std::string open = R"({"name":"open","workspaces":[]})";
  EXPECT_EQ(seen(a, groups), "[" + open + R"(,{"name":"shared","workspaces":["a"]}])");
  EXPECT_EQ(seen(c, groups), "[" + open + "]");
  EXPECT_EQ(seen(platform, groups), "[" + open + R"(,{"name":"shared","workspaces":["a","b"]}])");
  EXPECT_EQ(seen(a, nodes), R"([{"name":"n-open"},{"name":"n-shared"}])");
  EXPECT_EQ(seen(c, nodes), R"([{"name":"n-open"}])");
  EXPECT_EQ(server.call("GET", "/api/v1/nodes/n-shared", a).status, 200);
  EXPECT_EQ(server.call("GET", "/api/v1/nodes/n-shared", c).status, 404);
  EXPECT_EQ(server.call("GET", "/api/v1/node-groups/shared", c).status, 404);
  EXPECT_EQ(server.call("DELETE", "/api/v1/node-groups/shared", platform).status, 409) << "it has a node";
}

TEST(Fleet, a_shape_is_checked) {
  ApiServer server;
  server.add_workspace("w");
  const std::string platform = server.add_key("w", Role::admin, true);
  const std::pair<std::string_view, std::string_view> cases[] = {
      {R"({"name": "A"})", "422 invalid_field name"},
      {R"({"name": "a", "memory_bytes": -1})", "422 invalid_field memory_bytes"},
      {R"({"name": "a", "cores": 1e9})", "422 invalid_field cores"},
      {R"({"name": "a", "price_per_hour": 0.5})", "422 invalid_field price_per_hour"},
      {R"({"name": "a", "etag": 1})", "422 invalid_field etag"},
  };
  for (const auto& [body, refusal] : cases)
    EXPECT_EQ(testing::refusal(server.call("POST", "/api/v1/shapes", platform, body)), refusal) << body;
  EXPECT_EQ(server.call("POST", "/api/v1/shapes", platform, R"({"name": "a", "cores": 0.5})").status, 201);
  EXPECT_EQ(testing::refusal(server.call("POST", "/api/v1/shapes", platform, R"({"name": "a"})")),
            "409 already_exists name");
}

}  // namespace
}  // namespace neutrino::cloud
