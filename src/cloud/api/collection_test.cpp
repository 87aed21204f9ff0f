// Lists: filters, order, selection, pages; and how quick they are with ten thousand endpoints.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "cloud/api/object_json.h"
#include "cloud/testing/api_server.h"

namespace neutrino::cloud {
namespace {

using std::chrono::steady_clock;
using testing::ApiServer;
using testing::refusal;

struct ListServer : ApiServer {
  ListServer() {
    add_workspace("w");
    key = add_key("w", Role::admin, true);
    for (int i = 1; i <= 5; ++i)
      insert(tables().shapes, Shape{.name = fmt::format("s{}", i), .memory_bytes = i % 2, .cores = 0.5 * i});
  }
  std::string names(const std::string& query) {
    std::string all;
    const json::object page = get(call("GET", "/api/v1/shapes?fields=name&" + query, key));
    for (const json::value& item : page.at("items").as_array())
      all += std::string(item.at("name").as_string()) + " ";
    next = std::string(page.at("next").as_string());
    return all;
  }
  std::string key, next;
};

TEST(Lists, are_filtered_ordered_and_cut_into_pages) {
  ListServer server;
  EXPECT_EQ(server.names(""), "s1 s2 s3 s4 s5 ");
  EXPECT_EQ(server.names("descending=true&limit=2"), "s5 s4 ");
  EXPECT_EQ(server.names("descending=true&limit=2&after=" + server.next), "s3 s2 ");
  EXPECT_EQ(server.names("memory_bytes=1"), "s1 s3 s5 ");
  EXPECT_EQ(server.names("cores.min=1.5&cores.max=2"), "s3 s4 ");
  EXPECT_EQ(server.names("name.prefix=s&name=s2"), "s2 ");
  EXPECT_EQ(server.names("order_by=memory_bytes&limit=3"), "s2 s4 s1 ");
  EXPECT_EQ(server.names("order_by=memory_bytes&limit=3&after=" + server.next), "s3 s5 ");
}

TEST(Lists, say_which_parameter_is_wrong) {
  ListServer server;
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"shapes?limit=0", "limit"},
      {"shapes?limit=1001", "limit"},
      {"shapes?colour=red", "colour"},
      {"shapes?memory_bytes=x", "memory_bytes"},
      {"shapes?order_by=colour", "order_by"},
      {"shapes?after=zz", "after"},
      {"shapes?fields=colour", "fields"},
      {"shapes?descending=1", "descending"},
      {"shapes?memory_bytes.prefix=1", "memory_bytes.prefix"},
      {"shapes?limit=1&limit=2", "limit"},
      {"endpoints?aliases=x", "aliases"},
      {"shapes/s1?limit=1", "limit"},
  };
  for (const auto& [path, param] : cases)
    EXPECT_EQ(refusal(server.call("GET", fmt::format("/api/v1/{}", path), server.key)),
              fmt::format("400 invalid_value {}", param))
        << path;
}

TEST(Lists, a_merge_patch_is_that_of_its_standard) {
  // RFC 7396, appendix A.
  const std::string_view cases[][3] = {
      {R"({"a":"b"})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":"b"})", R"({"b":"c"})", R"({"a":"b","b":"c"})"},
      {R"({"a":"b","b":"c"})", R"({"a":null})", R"({"b":"c"})"},
      {R"({"a":["b"]})", R"({"a":"c"})", R"({"a":"c"})"},
      {R"({"a":{"b":"c"}})", R"({"a":{"b":"d","c":null}})", R"({"a":{"b":"d"}})"},
      {R"(["a","b"])", R"(["c","d"])", R"(["c","d"])"},
      {R"({"e":null})", R"({"a":1})", R"({"e":null,"a":1})"},
      {R"([1,2])", R"({"a":"b","c":null})", R"({"a":"b"})"},
      {R"({})", R"({"a":{"bb":{"ccc":null}}})", R"({"a":{"bb":{}}})"},
  };
  for (const auto& [target, patch, result] : cases) {
    json::value value = parse_json(target);
    merge_patch(value, parse_json(patch));
    EXPECT_EQ(to_text(value), result) << target << " with " << patch;
  }
}

void add_endpoints(ApiServer& server, int64_t count) {
  const Tables& tables = server.tables();
  server.database().write([&](store::Transaction& tx) {
    for (int64_t i = 0; i < count; ++i) {
      const std::string id = fmt::format("e-{:05}", i * 7919 % count);
      Endpoint endpoint{
          .id = id, .workspace = "w", .name = "name-" + id, .deployments = {{.model = "m-1", .revision = 1}}};
      tables.endpoints.insert(tx, endpoint);
      Deployment deployment{.id = id + "-main", .endpoint = id, .workspace = "w", .replicas = 1};
      tables.deployments.insert(tx, deployment);
      Replica replica{.id = id + "-main-1",
                      .deployment = id + "-main",
                      .endpoint = id,
                      .workspace = "w",
                      .revision = 1,
                      .state = ReplicaState::ready};
      tables.replicas.insert(tx, replica);
    }
  });
}

TEST(Lists, a_page_of_ten_thousand_endpoints_comes_at_once) {
  constexpr int64_t kEndpoints = 10'000;
  ListServer server;
  add_endpoints(server, kEndpoints);
  std::set<std::string> ids;
  std::vector<double> taken_ms;
  for (std::string after; ids.empty() || !after.empty();) {
    const auto start = steady_clock::now();
    const net::testing::Reply reply =
        server.call("GET", "/api/v1/endpoints?limit=100&after=" + after, server.key);
    taken_ms.push_back(std::chrono::duration<double, std::milli>(steady_clock::now() - start).count());
    const json::object page = server.get(reply);
    for (const json::value& item : page.at("items").as_array()) {
      ids.emplace(item.at("id").as_string());
      ASSERT_EQ(item.at("status").at("state").as_string(), "Ready");
    }
    after = std::string(page.at("next").as_string());
  }
  EXPECT_EQ(std::ssize(ids), kEndpoints);
  EXPECT_EQ(std::ssize(taken_ms), kEndpoints / 100);
  std::ranges::sort(taken_ms);
  const double p50 = taken_ms[taken_ms.size() / 2], p99 = taken_ms[taken_ms.size() * 99 / 100];
  RecordProperty("p50_ms", fmt::format("{:.1f}", p50));
  RecordProperty("p99_ms", fmt::format("{:.1f}", p99));
  EXPECT_LE(p99, 3 * 50) << "p50 " << p50;
}

}  // namespace
}  // namespace neutrino::cloud
