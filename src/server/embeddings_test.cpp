// POST /v1/embeddings against a model that embeds by a formula.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;

constexpr std::string_view kPath = "/v1/embeddings";

chat::ChatModelInfo embedding_info() {
  auto info = chat::testing::FakeChatModel::default_info();
  info.context_tokens = 16;
  info.embedding_size = 3;
  return info;
}

class Embeddings : public ::testing::Test {
 protected:
  Reply post(std::string_view more) const {
    return replica_.post(kPath, fmt::format(R"({{"model":"fake",{}}})", more));
  }
  json::object body(std::string_view more) const {
    const Reply reply = post(more);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return parse_json(reply.body).as_object();
  }
  std::vector<float> vector(const json::object& answer, size_t index) const {
    std::vector<float> values;
    for (const json::value& value : answer.at("data").at(index).at("embedding").as_array())
      values.push_back(value.to_number<float>());
    return values;
  }
  void expect_refused(std::string_view more, std::string_view param, std::string_view reason) const {
    const Reply reply = post(more);
    EXPECT_EQ(reply.status, 400) << more << reply.body;
    const json::object error = parse_json(reply.body).at("error").as_object();
    EXPECT_EQ(std::string_view(error.at("param").as_string()), param) << more;
    EXPECT_EQ(std::string_view(error.at("code").as_string()), reason) << more;
  }

  TestReplica replica_{{}, embedding_info()};
};

TEST_F(Embeddings, EveryFormOfInput) {
  const std::vector<float> five{1.0f / 6, 1.0f / 7, 1.0f / 8}, two{1.0f / 3, 1.0f / 4, 1.0f / 5};
  const json::object one = body(R"("input":"hello")");
  EXPECT_EQ(one.at("object"), "list");
  EXPECT_EQ(one.at("model"), "fake");
  EXPECT_EQ(one.at("data").at(0).at("object"), "embedding");
  EXPECT_EQ(one.at("usage").at("prompt_tokens"), 5);
  EXPECT_EQ(one.at("usage").at("total_tokens"), 5);
  EXPECT_EQ(vector(one, 0), five);
  const json::object texts = body(R"("input":["hello","ab"])");
  EXPECT_EQ(vector(texts, 0), five);
  EXPECT_EQ(vector(texts, 1), two);
  EXPECT_EQ(texts.at("data").at(1).at("index"), 1);
  EXPECT_EQ(vector(body(R"("input":[104,101,108,108,111])"), 0), five);
  EXPECT_EQ(vector(body(R"("input":[[104,101],[1,2,3,4,5]])"), 1), five);
}

TEST_F(Embeddings, Base64IsLittleEndianFloat32) {
  const json::object answer = body(R"("input":"abc","encoding_format":"base64")");
  // 1/4, 1/5, 1/6
  EXPECT_EQ(answer.at("data").at(0).at("embedding"), "AACAPs3MTD6rqio+");
}

TEST_F(Embeddings, TruncationKeepsTheBeginning) {
  expect_refused(R"("input":"12345678901234567")", "input", "context_length_exceeded");
  EXPECT_EQ(
      body(R"("input":"12345678901234567","truncate_prompt_tokens":-1)").at("usage").at("prompt_tokens"), 16);
  EXPECT_EQ(body(R"("input":"12345678901234567","truncate_prompt_tokens":4)").at("usage").at("prompt_tokens"),
            4);
  EXPECT_EQ(body(R"("input":"123","truncate_prompt_tokens":4)").at("usage").at("prompt_tokens"), 3);
}

TEST_F(Embeddings, WhatCannotBeHonouredIsRefusedByName) {
  expect_refused(R"("input":"a","dimensions":2)", "dimensions", "unsupported_parameter");
  EXPECT_EQ(body(R"("input":"a","dimensions":3)").at("data").as_array().size(), 1U);
  expect_refused(R"("input":"a","encoding_format":"hex")", "encoding_format", "invalid_value");
  expect_refused(R"("input":"")", "input", "invalid_value");
  expect_refused(R"("input":[])", "input", "invalid_value");
  expect_refused(R"("input":["a",""])", "input", "invalid_value");
  expect_refused(R"("input":["a",7])", "input[1]", "invalid_type");
  expect_refused(R"("input":[300])", "input[0]", "invalid_value");
  expect_refused(R"("input":[[]])", "input[0]", "invalid_value");
  expect_refused(R"("input":"a","truncate_prompt_tokens":0)", "truncate_prompt_tokens", "invalid_value");
  expect_refused(R"("input":"a","normalize":false)", "normalize", "unsupported_parameter");
}

TEST_F(Embeddings, TextIsRefusedWithTheRightAddress) {
  for (const auto& [path, body] : std::vector<std::pair<const char*, const char*>>{
           {"/v1/chat/completions", R"({"model":"fake","messages":[{"role":"user","content":"x"}]})"},
           {"/v1/completions", R"({"model":"fake","prompt":"x"})"}}) {
    const Reply reply = replica_.post(path, body);
    EXPECT_EQ(reply.status, 400) << path;
    EXPECT_NE(reply.body.find("/v1/embeddings"), reply.body.npos) << reply.body;
    EXPECT_NE(reply.body.find("not_a_text_model"), reply.body.npos) << reply.body;
  }
}

TEST(EmbeddingsOfAChatModel, AreRefused) {
  TestReplica replica;
  const Reply reply = replica.post(kPath, R"({"model":"fake","input":"a"})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_THAT(reply.body, ::testing::HasSubstr("not_an_embedding_model"));
}

}  // namespace
}  // namespace neutrino::server::testing
