#include "cloud/desired.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "cloud/model_need.h"

namespace neutrino::cloud {
namespace {

using ::testing::ElementsAre;

Endpoint endpoint(std::vector<DeploymentSpec> deployments) {
  return {.id = "chat-k3f9a2", .workspace = "w", .name = "chat", .deployments = std::move(deployments)};
}

TEST(Shares, AreByWeightRoundedUpAndWhatIsFixedIsFixed) {
  const struct {
    const char* what;
    std::vector<DeploymentSpec> deployments;
    int64_t total;
    std::map<std::string, int64_t> expected;
  } cases[] = {
      {"one gets all", {{.name = "a"}}, 3, {{"a", 3}}},
      {"none of none", {{.name = "a"}, {.name = "b", .weight = 10}}, 0, {{"a", 0}, {"b", 0}}},
      {"who gets requests has a replica",
       {{.name = "a", .weight = 99}, {.name = "b", .weight = 1}},
       2,
       {{"a", 2}, {"b", 1}}},
      {"a quarter", {{.name = "a", .weight = 75}, {.name = "b", .weight = 25}}, 8, {{"a", 6}, {"b", 2}}},
      {"fixed", {{.name = "a"}, {.name = "b", .replicas = 5}}, 1, {{"a", 1}, {"b", 5}}},
      {"copies need one",
       {{.name = "a"}, {.name = "b", .weight = 0, .shadow_percent = 10}},
       4,
       {{"a", 4}, {"b", 1}}},
      {"nothing for nothing", {{.name = "a"}, {.name = "b", .weight = 0}}, 4, {{"a", 4}, {"b", 0}}},
  };
  for (const auto& c : cases)
    EXPECT_EQ(share_replicas(endpoint(c.deployments), c.total), c.expected) << c.what;
  Endpoint paused = endpoint({{.name = "a", .replicas = 3}});
  paused.paused = true;
  EXPECT_EQ(share_replicas(paused, 5), (std::map<std::string, int64_t>{{"a", 0}}));
}

TEST(Templates, OfAModelRunServeWithTheEndpointsName) {
  const ServeProgram program{.command = {"/bin/neutrino", "serve"}};
  const Endpoint e =
      endpoint({{.model = "smollm2",
                 .arguments = {"--threads", "2"},
                 .environment = {{.name = "A", .value = "1"}, {.name = "B", .secret = "token"}},
                 .memory_predicted_bytes = 77}});
  const ReplicaTemplate made = replica_template(e, e.deployments[0], {}, program);
  EXPECT_THAT(made.command, ElementsAre("/bin/neutrino", "serve", "smollm2", "--host", "{host}", "--port",
                                        "{port}", "--served-model-name", "chat", "--threads", "2"));
  EXPECT_THAT(made.environment, ElementsAre("A=1"));
  EXPECT_THAT(made.secrets, ElementsAre("B=token", "NEUTRINO_API_KEY=@replica-key"));
  EXPECT_EQ(made.memory_bytes, 77);
  EXPECT_EQ(served_name(e, e.deployments[0]), "chat");
}

TEST(Templates, OfACommandAreTheCommand) {
  const Endpoint e = endpoint({{.command = {"server", "{port}"}, .shape = "small", .ready_path = "/up"}});
  const Shapes shapes{{"small", {.name = "small", .memory_bytes = 5, .cores = 2}}};
  const ReplicaTemplate made = replica_template(e, e.deployments[0], shapes, {});
  EXPECT_THAT(made.command, ElementsAre("server", "{port}"));
  EXPECT_TRUE(made.secrets.empty());
  EXPECT_EQ(made.memory_bytes, 5);
  EXPECT_EQ(made.cores, 2);
  EXPECT_EQ(served_name(e, e.deployments[0]), "");
  EXPECT_EQ(probe_plan(made).startup.path, "/up");
  EXPECT_EQ(probe_plan(made).liveness.path, "");
}

TEST(ModelNeed, IsThatOfTheProfileWhichTheArgumentsChoose) {
  const std::string profiles = R"([
    {"profile": "neutrino-cpu-q4-kv_bf16", "requires_bytes": 1000},
    {"profile": "neutrino-cpu-q4-kv_q8_0", "requires_bytes": 600},
    {"profile": "neutrino-cpu-q4-exact", "requires_bytes": 4000, "group": "incompatible"},
    {"profile": "neutrino-cpu-q4-kv_f16", "group": "incompatible", "reason": "not built"}])";
  const int64_t room = memory_of_profiles(profiles, {}) - 1000;
  EXPECT_GT(room, 0);
  EXPECT_EQ(memory_of_profiles(profiles, {"--kv-type", "q8_0"}), room + 600);
  EXPECT_EQ(memory_of_profiles(profiles, {"--kv-type=q8_0"}), room + 600);
  EXPECT_EQ(memory_of_profiles(profiles, {"--exact"}), room + 4000);
  EXPECT_THROW(memory_of_profiles(profiles, {"--kv-type", "f16"}), Error);
}

TEST(ModelNeed, SaysWhatTheProgramSays) {
  try {
    predict_memory({.command = {"/bin/sh", "-c", "echo no model $0 >&2; exit 1"}}, "dog", {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(error.message(), "no model dog");
  }
}

}  // namespace
}  // namespace neutrino::cloud
