// POST /v1/score and /v1/rerank against models that score by a formula; rendering; and what a replica does not keep.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;

chat::ChatModelInfo info_of(bool reranker) {
  auto info = chat::testing::FakeChatModel::default_info();
  info.context_tokens = 32;
  info.reranker = reranker;
  info.embedding_size = reranker ? 0 : 3;
  return info;
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

class Reranker : public ::testing::Test {
 protected:
  Reply post(std::string_view path, std::string_view more) const {
    return replica_.post(path, fmt::format(R"({{"model":"fake",{}}})", more));
  }
  json::object body(std::string_view path, std::string_view more) const {
    const Reply reply = post(path, more);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return parse_json(reply.body).as_object();
  }
  void expect_refused(std::string_view path, std::string_view more, std::string_view param,
                      std::string_view reason) const {
    const Reply reply = post(path, more);
    EXPECT_EQ(reply.status, 400) << more << reply.body;
    const json::object error = parse_json(reply.body).at("error").as_object();
    EXPECT_EQ(std::string_view(error.at("param").as_string()), param) << more;
    EXPECT_EQ(std::string_view(error.at("code").as_string()), reason) << more;
  }
  double score(const json::object& answer, size_t index) const {
    return answer.at("data").at(index).at("score").to_number<double>();
  }

  TestReplica replica_{{}, info_of(true)};
};
TEST_F(Reranker, RanksTheBestFirst) {
  // The fake's raw score of a pair is its number of tokens minus 10: here 1 + 2 + the document's.
  const json::object answer =
      body("/v1/rerank", R"("query":"q","documents":["four","eight---",{"text":"two"}])");
  EXPECT_THAT(std::string(answer.at("id").as_string()), ::testing::StartsWith("rerank-"));
  EXPECT_EQ(answer.at("model"), "fake");
  EXPECT_EQ(answer.at("usage").at("total_tokens"), 3 * 3 + 4 + 8 + 3);
  const json::array& results = answer.at("results").as_array();
  ASSERT_EQ(results.size(), 3U);
  EXPECT_EQ(results[0].at("index"), 1);
  EXPECT_EQ(results[0].at("document").at("text"), "eight---");
  EXPECT_NEAR(results[0].at("relevance_score").to_number<double>(), sigmoid(1), 1e-9);
  EXPECT_EQ(results[1].at("index"), 0);
  EXPECT_EQ(results[2].at("index"), 2);
  EXPECT_NEAR(results[2].at("relevance_score").to_number<double>(), sigmoid(-4), 1e-9);

  const json::object best =
      body("/rerank", R"("query":"q","documents":["four","eight---"],"top_n":1,"return_documents":false)");
  ASSERT_EQ(best.at("results").as_array().size(), 1U);
  EXPECT_FALSE(best.at("results").at(0).as_object().contains("document"));
  EXPECT_EQ(body("/v2/rerank", R"("query":"q","documents":["a"],"top_n":9)").at("results").as_array().size(),
            1U);
}

TEST_F(Reranker, ScoresPairs) {
  const json::object one = body("/v1/score", R"("text_1":"ab","text_2":["c","defg"])");
  EXPECT_EQ(one.at("object"), "list");
  EXPECT_NEAR(score(one, 0), sigmoid(5 - 10), 1e-9);
  EXPECT_NEAR(score(one, 1), sigmoid(8 - 10), 1e-9);
  const json::object each =
      body("/score", R"("text_1":["a","abc"],"text_2":["c","c"],"use_activation":false)");
  EXPECT_NEAR(score(each, 0), 4 - 10, 1e-9);
  EXPECT_NEAR(score(each, 1), 6 - 10, 1e-9);
}

TEST_F(Reranker, RefusesByName) {
  expect_refused("/v1/rerank", R"("documents":["a"])", "query", "missing_required_parameter");
  expect_refused("/v1/rerank", R"("query":"","documents":["a"])", "query", "invalid_value");
  expect_refused("/v1/rerank", R"("query":"q","documents":[])", "documents", "invalid_value");
  expect_refused("/v1/rerank", R"("query":"q","documents":["a",1])", "documents[1]", "invalid_type");
  expect_refused("/v1/rerank", R"("query":"q","documents":["a",{"title":"b"}])", "documents[1]",
                 "invalid_type");
  expect_refused("/v1/rerank", R"("query":"q","documents":["a"],"top_n":0)", "top_n", "invalid_value");
  expect_refused("/v1/rerank", R"("query":"q","documents":["a"],"max_tokens_per_doc":9)",
                 "max_tokens_per_doc", "unsupported_parameter");
  expect_refused("/v1/rerank", R"("query":"q","documents":["a","0123456789012345678901234567890"])",
                 "documents[1]", "context_length_exceeded");
  expect_refused("/v1/score", R"("text_1":["a","b"],"text_2":["a","b","c"])", "text_1", "invalid_value");
  expect_refused("/v1/completions", R"("prompt":"a")", "model", "not_a_text_model");
  expect_refused("/v1/embeddings", R"("input":"a")", "model", "not_an_embedding_model");
}

TEST_F(Reranker, TruncatesOnlyWhenAsked) {
  const std::string long_text(40, 'x');
  const json::object answer = body(
      "/v1/rerank", fmt::format(R"("query":"q","documents":["{}"],"truncate_prompt_tokens":-1)", long_text));
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), 32);
  EXPECT_EQ(
      body("/v1/score", fmt::format(R"("text_1":"q","text_2":"{}","truncate_prompt_tokens":7)", long_text))
          .at("usage")
          .at("prompt_tokens"),
      7);
}

TEST(EmbeddingScores, AreCosines) {
  TestReplica replica({}, info_of(false));
  const auto vector = [](int tokens) {
    std::vector<double> v;
    for (int i = 0; i < 3; ++i) v.push_back(1.0 / (1 + i + tokens));
    return v;
  };
  const auto dot = [&](int a, int b) {
    double sum = 0;
    for (size_t i = 0; i < 3; ++i) sum += vector(a)[i] * vector(b)[i];
    return sum;
  };
  const Reply reply = replica.post("/v1/score", R"({"model":"fake","text_1":"ab","text_2":["c","defg"]})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json::value answer = parse_json(reply.body);
  EXPECT_NEAR(answer.at("data").at(0).at("score").to_number<double>(), dot(2, 1), 1e-6);
  EXPECT_NEAR(answer.at("data").at(1).at("score").to_number<double>(), dot(2, 4), 1e-6);
  EXPECT_EQ(answer.at("usage").at("prompt_tokens"), 7);
  const Reply raw =
      replica.post("/v1/score", R"({"model":"fake","text_1":"ab","text_2":"c","use_activation":false})");
  EXPECT_EQ(raw.status, 400);
}

TEST(TextModel, ScoresNothing) {
  TestReplica replica;
  const Reply reply = replica.post("/v1/rerank", R"({"model":"fake","query":"q","documents":["a"]})");
  EXPECT_EQ(reply.status, 400);
  EXPECT_EQ(parse_json(reply.body).at("error").at("code"), "not_a_reranker");
}

TEST(Render, GivesPromptAndTokensWithoutRunning) {
  TestReplica replica;
  const Reply reply = replica.post("/v1/chat/completions/render", chat_body(R"("max_tokens":5)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json::value chat = parse_json(reply.body);
  EXPECT_EQ(chat.at("token_ids").as_array().size(), chat.at("count").to_number<size_t>());
  EXPECT_EQ(chat.at("prompt").as_string().size(),
            chat.at("count").to_number<size_t>());  // the fake's are bytes
  EXPECT_EQ(chat.at("max_tokens"), 5);
  const json::value text =
      parse_json(replica.post("/v1/completions/render", R"({"model":"fake","prompt":["ab",[99]]})").body);
  EXPECT_EQ(text.at("data").at(0).at("token_ids"), (json::array{97, 98}));
  EXPECT_EQ(text.at("data").at(1).at("prompt"), "c");
  EXPECT_EQ(replica.post("/v1/chat/completions/render", chat_body(R"("temperature":9)")).status, 400);
  EXPECT_TRUE(replica.model().requests().empty());
}

TEST(NotKept, SaysWhatAndWhy) {
  TestReplica replica;
  for (const std::string_view path : {"/v1/files", "/v1/batches", "/v1/files/f-1", "/v1/responses/resp_1"}) {
    const Reply reply = replica.get(path);
    EXPECT_EQ(reply.status, 404) << path;
    EXPECT_EQ(parse_json(reply.body).at("error").at("code"), "not_stored_here") << path;
  }
  const Reply upload = net::testing::ask(
      replica.port(),
      "POST /v1/files HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
      "Content-Length: 5\r\n\r\n--x--");
  EXPECT_EQ(upload.status, 404) << upload.body;
  EXPECT_EQ(replica.get("/v1/file").status, 404);
  EXPECT_EQ(parse_json(replica.get("/v1/file").body).at("error").at("code"), "route_not_found");
}

TEST(About, SpeaksNim) {
  auto info = chat::testing::FakeChatModel::default_info();
  info.license = {{"name", "apache-2.0"}};
  info.manifest = {{"name", "fake"}, {"files", json::array()}};
  TestReplica replica({}, info);
  const json::value metadata = parse_json(replica.get("/v1/metadata").body);
  for (const char* key :
       {"assetInfo", "licenseInfo", "modelInfo", "repository_override", "version", "selectedModelProfileId"})
    EXPECT_TRUE(metadata.as_object().contains(key)) << key;
  EXPECT_EQ(metadata.at("modelInfo").at(0).at("shortName"), "fake");
  EXPECT_EQ(parse_json(replica.get("/v1/license").body).at("name"), "apache-2.0");
  const json::value manifest = parse_json(replica.get("/v1/manifest").body);
  EXPECT_EQ(parse_json(std::string_view(manifest.at("manifest_file").as_string())), manifest.at("manifest"));
  const json::value ready = parse_json(replica.get("/v1/health/ready").body);
  EXPECT_EQ(ready.at("object"), "health.response");
  EXPECT_EQ(ready.at("status"), "ready");
}

}  // namespace
}  // namespace neutrino::server::testing
