// Endpoints through the API, as a client sees them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>

#include "cloud/api/endpoint_status.h"
#include "cloud/testing/api_server.h"

namespace neutrino::cloud {
namespace {

using testing::ApiServer;
using ::testing::HasSubstr;
using testing::refusal;
using testing::Reply;

constexpr std::string_view kChat = R"({"name": "chat", "deployments": [{"model": "m-1000"}]})";

class EndpointsTest : public store::testing::OnBothEngines {
 protected:
  void SetUp() override {
    server.emplace(new_url());
    server->add_workspace("w");
    user = server->add_key("w", Role::user);
  }
  Reply call(std::string_view method, std::string_view path, std::string_view body = "",
             std::string_view headers = "") {
    return server->call(method, path, user, body, headers);
  }
  std::string text(const json::object& object, std::string_view name) { return to_text(object.at(name)); }

  std::optional<ApiServer> server;
  std::string user;
};

TEST_P(EndpointsTest, a_life) {
  const Reply made = call("POST", "/api/v1/endpoints", kChat);
  const json::object created = server->get(made, 201);
  const std::string id(created.at("id").as_string());
  EXPECT_TRUE(id.starts_with("chat-") && id.size() == 11) << id;
  EXPECT_EQ(made.headers.at("location"), "/api/v1/endpoints/" + id);
  EXPECT_EQ(made.headers.at("etag"), "\"" + text(created, "etag") + "\"");
  const json::value& deployment = created.at("deployments").at(0);
  EXPECT_EQ(deployment.at("revision").as_int64(), 1);
  EXPECT_EQ(deployment.at("memory_predicted_bytes").as_int64(), 1000);
  EXPECT_EQ(created.at("status").at("state").as_string(), "Idle");

  EXPECT_EQ(server->get(call("GET", "/api/v1/endpoints/chat")), created);
  EXPECT_EQ(server->get(call("GET", "/api/v1/endpoints/" + id)), created);
  const json::object sent_back = server->get(call("PUT", "/api/v1/endpoints/chat", to_text(created)));
  EXPECT_EQ(sent_back, created);  // as it was shown, and no change

  const json::object aliased = server->get(
      call("PATCH", "/api/v1/endpoints/chat", R"({"aliases": ["gpt-4o"], "scaling": {"replicas_max": 3}})"));
  EXPECT_EQ(aliased.at("scaling").at("replicas_max").as_int64(), 3);
  EXPECT_EQ(aliased.at("scaling").at("replicas_min").as_int64(), 0);
  EXPECT_EQ(aliased.at("deployments").at(0).at("revision").as_int64(), 1);
  const json::object reset = server->get(call("PATCH", "/api/v1/endpoints/chat", R"({"aliases": null})"));
  EXPECT_EQ(text(reset, "aliases"), "[]");

  EXPECT_EQ(call("DELETE", "/api/v1/endpoints/chat").status, 204);
  EXPECT_EQ(call("GET", "/api/v1/endpoints/chat").status, 404);
  EXPECT_EQ(call("POST", "/api/v1/endpoints", kChat).status, 201) << "its names are free again";
}

TEST_P(EndpointsTest, what_cannot_be_is_named_by_its_path) {
  server->add_workspace("v");
  server->insert(server->tables().secrets,
                 Secret{.id = "s-1", .workspace = "v", .name = "theirs", .sealed = "x"});
  server->insert(server->tables().shapes, Shape{.name = "small", .memory_bytes = 500});
  struct Case {
    std::string_view body, refusal;
  };
  const Case cases[] = {
      {R"({"name": "Chat", "deployments": [{"model": "m-1"}]})", "422 invalid_field name"},
      {R"({"name": "c"})", "422 invalid_field deployments"},
      {R"({"name": "c", "nmae": "d"})", "422 invalid_field nmae"},
      {R"({"name": "c", "id": "mine"})", "422 invalid_field id"},
      {R"({"name": "c", "deployments": [{"model": "m-1"}, {"model": 3}]})",
       "422 invalid_field deployments[1].model"},
      {R"({"name": "c", "deployments": [{"model": "none"}]})", "422 invalid_field deployments[0].model"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "command": ["x"]}]})",
       "422 invalid_field deployments[0].model"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "arguments": ["--port=80"]}]})",
       "422 invalid_field deployments[0].arguments[0]"},
      {R"({"name": "c", "deployments": [{"model": "m-1"}, {"model": "m-1", "name": "b", "weight": -1}]})",
       "422 invalid_field deployments[1].weight"},
      {R"({"name": "c", "deployments": [{"model": "m-1"}, {"model": "m-1"}]})",
       "422 invalid_field deployments[1].name"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "weight": 0}]})",
       "422 invalid_field deployments[0].weight"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "name": "a_b"}]})",
       "422 invalid_field deployments[0].name"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "shape": "huge"}]})",
       "422 invalid_field deployments[0].shape"},
      {R"({"name": "c", "deployments": [{"model": "m-501", "shape": "small"}]})",
       "422 invalid_field deployments[0].shape"},
      {R"({"name": "c", "deployments": [{"model": "m-9", "memory_bytes": 8}]})",
       "422 invalid_field deployments[0].memory_bytes"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "environment": [{"name": "A", "secret": "theirs"}]}]})",
       "422 invalid_field deployments[0].environment[0].secret"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "environment": [{"name": "A=B"}]}]})",
       "422 invalid_field deployments[0].environment[0].name"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "rollout": {"surge_max": 0}}]})",
       "422 invalid_field deployments[0].rollout.surge_max"},
      {R"({"name": "c", "deployments": [{"command": ["x"], "ready_path": "health"}]})",
       "422 invalid_field deployments[0].ready_path"},
      {R"({"name": "c", "deployments": [{"model": "m-1", "environment": [{"name": "NEUTRINO_API_KEY"}]}]})",
       "422 invalid_field deployments[0].environment[0].name"},
      {R"({"name": "c", "policy": "best"})", "422 invalid_field policy"},
      {R"({"name": "c", "limits": {"addresses": ["10.0.0.0/99"]}})", "422 invalid_field limits.addresses[0]"},
      {R"({"name": "c", "scaling": {"replicas_min": 2}})", "422 invalid_field scaling.replicas_max"},
      {R"({"name": "c", "scaling": {"schedule": [{"days": 0}]}})",
       "422 invalid_field scaling.schedule[0].days"},
      {R"({"name": "c", "aliases": ["c"]})", "422 invalid_field aliases[0]"},
      {R"({"name": "c", "adapters": ["a b"]})", "422 invalid_field adapters[0]"},
      {R"({"name": "c", "held_max": 1e3})", "422 invalid_field held_max"},
      {R"([])", "400 invalid_body -"},
      {R"({"name": )", "400 invalid_json -"},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(refusal(call("POST", "/api/v1/endpoints", one.body)), one.refusal) << one.body;
    if (one.refusal == "422 invalid_field name") continue;
    EXPECT_EQ(refusal(call("PUT", "/api/v1/endpoints/c", one.body)), one.refusal) << one.body;
  }
  EXPECT_EQ(text(server->get(call("GET", "/api/v1/endpoints")), "items"), "[]");
}

TEST_P(EndpointsTest, names_aliases_and_adapters_are_unique_together) {
  EXPECT_EQ(
      call("POST", "/api/v1/endpoints",
           R"({"name": "a", "aliases": ["b"], "adapters": ["org/c"], "deployments": [{"model": "m-1"}]})")
          .status,
      201);
  const auto make = [&](std::string_view name, std::string_view aliases) {
    return refusal(call("PUT", fmt::format("/api/v1/endpoints/{}", name),
                        fmt::format(R"({{"aliases": {}, "deployments": [{{"model": "m-1"}}]}})", aliases)));
  };
  EXPECT_EQ(make("b", "[]"), "409 already_exists name");
  EXPECT_EQ(make("d", R"(["x", "a"])"), "409 already_exists aliases[1]");
  EXPECT_EQ(make("d", R"(["org/c"])"), "409 already_exists aliases[0]");
  EXPECT_EQ(refusal(call("POST", "/api/v1/endpoints", R"({"name": "a", "deployments": [{"model": "m-1"}]})")),
            "409 already_exists name");
  EXPECT_EQ(call("PATCH", "/api/v1/endpoints/a", R"({"aliases": null})").status, 200);
  EXPECT_EQ(call("PUT", "/api/v1/endpoints/b", R"({"deployments": [{"model": "m-1"}]})").status, 201)
      << "free again";
  server->add_workspace("v");
  const std::string other = server->add_key("v", Role::user);
  EXPECT_EQ(
      server->call("POST", "/api/v1/endpoints", other, R"({"name": "a", "deployments": [{"model": "m-1"}]})")
          .status,
      201)
      << "another workspace has names of its own";
}

TEST_P(EndpointsTest, revisions_are_counted_and_gone_back_to) {
  call("POST", "/api/v1/endpoints", kChat);
  const auto change = [&](std::string_view deployment) {
    const json::object now = server->get(
        call("PATCH", "/api/v1/endpoints/chat", fmt::format(R"({{"deployments": [{}]}})", deployment)));
    return now.at("deployments").at(0).at("revision").as_int64();
  };
  EXPECT_EQ(change(R"({"model": "m-1000", "weight": 7})"), 1) << "a share makes no other replicas";
  EXPECT_EQ(change(R"({"model": "m-1000", "weight": 7, "replicas": 2, "arguments": ["--x"]})"), 2);
  EXPECT_EQ(change(R"({"model": "m-2000", "weight": 8})"), 3);
  const auto roll_back = [&](std::string_view body) {
    return server->get(call("POST", "/api/v1/endpoints/chat/rollback", body))
        .at("deployments")
        .at(0)
        .as_object();
  };
  const json::object back = roll_back("{}");
  EXPECT_EQ(text(back, "revision") + text(back, "arguments") + text(back, "weight"), "2[\"--x\"]8");
  EXPECT_EQ(text(roll_back(R"({"deployment": "main", "revision": 1})"), "revision"), "1");
  EXPECT_EQ(refusal(call("POST", "/api/v1/endpoints/chat/rollback", "{}")), "404 not_found revision");
  EXPECT_EQ(refusal(call("POST", "/api/v1/endpoints/chat/rollback", R"({"deployment": "x"})")),
            "422 invalid_field deployment");
  EXPECT_EQ(change(R"({"model": "m-3000"})"), 4) << "a number is never used again";
  const json::object kept =
      server->get(call("GET", "/api/v1/endpoints/chat/revisions?descending=true&fields=revision,author"));
  EXPECT_THAT(text(kept, "items"), HasSubstr(R"([{"revision":4,"author":"key:)"));
  EXPECT_EQ(kept.at("items").as_array().size(), 4u);
}

TEST_P(EndpointsTest, an_operator_scales_and_pauses) {
  call("POST", "/api/v1/endpoints", kChat);
  const auto act = [&](std::string_view verb, std::string_view body = "") {
    return call("POST", fmt::format("/api/v1/endpoints/chat/{}", verb), body);
  };
  const json::object scaled = server->get(act("scale", R"({"replicas": 3})"));
  EXPECT_EQ(text(scaled, "scaled_to"), "3");
  EXPECT_GT(scaled.at("scaled_ms").as_int64(), 0);
  EXPECT_EQ(text(server->get(act("scale", R"({"replicas": null})")), "scaled_to"), "null");
  EXPECT_EQ(refusal(act("scale")), "422 invalid_field replicas");
  EXPECT_EQ(refusal(act("scale", R"({"replicas": 1001})")), "422 invalid_field replicas");
  call("PATCH", "/api/v1/endpoints/chat", R"({"deployments": [{"model": "m-1000", "replicas": 2}]})");
  EXPECT_EQ(refusal(act("scale", R"({"replicas": 3})")), "422 invalid_field replicas");
  EXPECT_EQ(server->get(act("pause")).at("status").at("state").as_string(), "Paused");
  EXPECT_EQ(text(server->get(act("resume", "{}")), "paused"), "false");
  EXPECT_EQ(refusal(act("resume", R"({"now": true})")), "422 invalid_field now");
}

// ---- status, from rows

struct StatusCase {
  std::string_view what;
  int64_t wanted;
  std::vector<Replica> replicas;
  std::string_view no_capacity, state;
  bool paused = false;
};

Replica replica_in(ReplicaState state, int64_t failures = 0, ReplicaGoal goal = ReplicaGoal::run) {
  return {.id = "e-main-1",
          .deployment = "e-main",
          .endpoint = "e",
          .revision = 1,
          .goal = goal,
          .state = state,
          .reason = failures ? "Crashed" : "",
          .failures = failures};
}

TEST(EndpointStatus, follows_from_what_runs) {
  const Replica ready = replica_in(ReplicaState::ready), loading = replica_in(ReplicaState::loading),
                crashed = replica_in(ReplicaState::pending, 2),
                leaving = replica_in(ReplicaState::ready, 0, ReplicaGoal::drain);
  const StatusCase cases[] = {
      {"nothing wanted", 0, {}, "", "Idle"},
      {"the last one leaves", 0, {leaving}, "", "Idle"},
      {"wanted, none there", 1, {}, "", "Starting"},
      {"loading", 1, {loading}, "", "Starting"},
      {"no room", 1, {}, "needs 2 GiB, 1 GiB is free", "NoCapacity"},
      {"an old want of room", 1, {loading}, "needs 2 GiB, 1 GiB is free", "Starting"},
      {"crashes", 1, {crashed}, "", "Failed"},
      {"some", 2, {ready, crashed}, "", "Degraded"},
      {"a leaving one does not count", 2, {ready, leaving}, "", "Degraded"},
      {"all", 2, {ready, ready}, "", "Ready"},
      {"paused", 0, {leaving}, "", "Paused", true},
  };
  for (const StatusCase& one : cases) {
    const Endpoint endpoint{.id = "e", .paused = one.paused, .deployments = {{.revision = 1}}};
    const EndpointStatus status =
        endpoint_status(endpoint, {{.id = "e-main", .endpoint = "e", .replicas = one.wanted}}, one.replicas,
                        std::string(one.no_capacity));
    EXPECT_EQ(enum_name(status.state), one.state) << one.what;
    const bool is_wrong = one.state == "Failed" || one.state == "NoCapacity";
    EXPECT_TRUE(!is_wrong || !status.message.empty()) << one.what;
  }
}

TEST_P(EndpointsTest, a_status_is_told_from_the_controllers_rows) {
  const std::string id(server->get(call("POST", "/api/v1/endpoints", kChat), 201).at("id").as_string());
  const Tables& tables = server->tables();
  server->insert(tables.deployments,
                 Deployment{.id = id + "-main", .endpoint = id, .workspace = "w", .replicas = 2});
  server->insert(
      tables.events,
      EventRow{.id = 1, .workspace = "w", .endpoint = id, .reason = "NoCapacity", .message = "needs more"});
  const auto status = [&] {
    return server->get(call("GET", "/api/v1/endpoints/chat")).at("status").as_object();
  };
  EXPECT_EQ(text(status(), "state") + text(status(), "message"), R"("NoCapacity""needs more")");
  server->insert(tables.events, EventRow{.id = 2, .workspace = "w", .endpoint = id, .reason = "Placed"});
  server->insert(tables.replicas, Replica{.id = id + "-main-1",
                                          .deployment = id + "-main",
                                          .endpoint = id,
                                          .workspace = "w",
                                          .revision = 1,
                                          .state = ReplicaState::ready});
  EXPECT_EQ(text(status(), "state"), R"("Degraded")");
  EXPECT_EQ(text(status(), "deployments"),
            R"([{"name":"main","revision":1,"replicas":1,"ready":1,"updated":1,"message":""}])");
  const json::object replicas =
      server->get(call("GET", "/api/v1/replicas?endpoint=chat&state=ready&fields=id"));
  EXPECT_EQ(text(replicas, "items"), fmt::format(R"([{{"id":"{}-main-1"}}])", id));
  EXPECT_EQ(text(server->get(call("GET", "/api/v1/events?endpoint=chat&reason=Placed&fields=id")), "items"),
            R"([{"id":2}])");
}

TEST_P(EndpointsTest, a_log_is_read_and_followed) {
  server->insert(server->tables().replicas, Replica{.id = "r-1", .workspace = "w"});
  std::atomic<int> looks{0};
  server->read_log = [&](const std::string& id, int64_t cursor, int64_t) {
    EXPECT_EQ(id, "r-1");
    if (cursor == 9 && ++looks < 3) return LogChunk{.next = 9};
    return LogChunk{.text = "a\xff\xe2\x82\xac\xe2\x82", .next = cursor + 7, .lost_bytes = 2};
  };
  const std::string expected = R"({"text":"a�€","next":14,"lost_bytes":2})";
  EXPECT_EQ(call("GET", "/api/v1/replicas/r-1/log?cursor=9&wait_ms=20000").body, expected);
  EXPECT_EQ(looks, 3);
  looks = 0;
  EXPECT_EQ(call("GET", "/api/v1/replicas/r-1/log?cursor=9").body, R"({"text":"","next":9,"lost_bytes":0})");
  EXPECT_EQ(call("GET", "/api/v1/replicas/r-2/log").status, 404);
  EXPECT_EQ(refusal(call("GET", "/api/v1/replicas/r-1/log?bytes=0")), "400 invalid_value bytes");
}

NEUTRINO_ON_BOTH_ENGINES(EndpointsTest);

}  // namespace
}  // namespace neutrino::cloud
