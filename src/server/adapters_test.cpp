// Adapters as models: the two routes, the list of models, and which adapter a request gets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;
using ::testing::HasSubstr;

constexpr std::string_view kLoad = "/v1/load_lora_adapter", kUnload = "/v1/unload_lora_adapter";

json::object body_of(const Reply& reply) { return parse_json(reply.body).as_object(); }
std::string code_of(const Reply& reply) {
  return std::string(body_of(reply).at("error").at("code").as_string());
}

std::string load_body(std::string_view name, std::string_view more = "") {
  return fmt::format(R"({{"lora_name":"{}","lora_path":"/"{}}})", name, more);
}
std::string unload_body(std::string_view name) { return fmt::format(R"({{"lora_name":"{}"}})", name); }
std::string ask_body(std::string_view model) {
  return fmt::format(R"({{"model":"{}","prompt":"Hi","max_tokens":4}})", model);
}

TEST(AdapterRoutes, ARequestGetsTheAdapterOfItsModelName) {
  TestReplica replica;
  const Reply loaded = replica.post(kLoad, load_body("tuned"));
  ASSERT_EQ(loaded.status, 200) << loaded.body;
  EXPECT_EQ(loaded.body, "Success: LoRA adapter 'tuned' added successfully.");
  const Reply answer = replica.post("/v1/completions", ask_body("tuned"));
  ASSERT_EQ(answer.status, 200) << answer.body;
  EXPECT_EQ(body_of(answer).at("model"), "tuned");
  EXPECT_EQ(body_of(answer).at("system_fingerprint"), "fake-0_dddddddd");
  ASSERT_EQ(replica.post("/v1/completions", ask_body("fake")).status, 200);
  const auto requests = replica.model().requests();
  ASSERT_EQ(requests.size(), 2u);
  ASSERT_NE(requests[0].adapter, nullptr);
  EXPECT_EQ(requests[0].adapter->name, "tuned");
  EXPECT_EQ(requests[1].adapter, nullptr);

  EXPECT_EQ(replica.post(kUnload, unload_body("tuned")).body,
            "Success: LoRA adapter 'tuned' removed successfully.");
  const Reply gone = replica.post("/v1/completions", ask_body("tuned"));
  EXPECT_EQ(gone.status, 404);
  EXPECT_EQ(code_of(gone), "model_not_found");
  EXPECT_EQ(replica.post(kUnload, unload_body("tuned")).status, 404);
}

TEST(AdapterRoutes, ModelsListsThemWithTheirParent) {
  TestReplica replica;
  ASSERT_EQ(replica.post(kLoad, load_body("tuned")).status, 200);
  const json::array models = body_of(replica.get("/v1/models")).at("data").as_array();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].at("id"), "fake");
  EXPECT_TRUE(models[0].at("parent").is_null());
  EXPECT_EQ(models[1].at("id"), "tuned");
  EXPECT_EQ(models[1].at("parent"), "fake");
  EXPECT_EQ(body_of(replica.get("/v1/models/tuned")).at("parent"), "fake");
  EXPECT_THAT(replica.post("/v1/completions", ask_body("nobody")).body, HasSubstr("tuned"));
  EXPECT_EQ(body_of(replica.get("/v1/metadata")).at("adapters").at(0).at("name"), "tuned");
}

TEST(AdapterRoutes, WhatIsWrongIsNamed) {
  TestReplica replica;
  ASSERT_EQ(replica.post(kLoad, load_body("tuned")).status, 200);
  const auto refused = [&](std::string_view path, const std::string& body, int status,
                           std::string_view code) {
    const Reply reply = replica.post(path, body);
    EXPECT_EQ(reply.status, status) << body << reply.body;
    EXPECT_EQ(code_of(reply), code) << body;
  };
  refused(kLoad, load_body("tuned"), 409, "adapter_exists");
  EXPECT_EQ(replica.post(kLoad, load_body("tuned", R"(,"load_inplace":true)")).status, 200);
  refused(kLoad, load_body("fake"), 400, "invalid_value");
  refused(kLoad, load_body(""), 400, "invalid_value");
  refused(kLoad, R"({"lora_name":"x","lora_path":"/nowhere/at/all"})", 400, "adapter_not_found");
  refused(kLoad, R"({"lora_name":"x","lora_path":""})", 400, "invalid_value");
  refused(kLoad, R"({"lora_name":"x"})", 400, "missing_required_parameter");
  refused(kLoad, R"({"lora_name":7,"lora_path":"/"})", 400, "invalid_type");
  refused(kLoad, load_body("x", R"(,"is_3d_lora_weight":true)"), 400, "unsupported_parameter");
  refused(kUnload, R"({})", 400, "missing_required_parameter");
  const Reply reported = replica.post(kUnload, R"({"lora_name":"tuned","lora_int_id":3})");
  EXPECT_EQ(reported.status, 200);
  EXPECT_EQ(reported.headers.at("x-ignored-params"), "lora_int_id");
}

}  // namespace
}  // namespace neutrino::server::testing
