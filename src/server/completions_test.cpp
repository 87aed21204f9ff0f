// The two generating routes against the scripted model: whole answers, streams, and that they are the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using chat::testing::Script;
using net::testing::Reply;
using ::testing::HasSubstr;

constexpr std::string_view kChat = "/v1/chat/completions";
constexpr std::string_view kCompletions = "/v1/completions";

json::object body_of(const Reply& reply) { return parse_json(reply.body).as_object(); }

const json::object& choice(const json::object& body, size_t index = 0) {
  return body.at("choices").as_array().at(index).as_object();
}

std::string content(const json::object& body, size_t index = 0) {
  return std::string(choice(body, index).at("message").at("content").as_string());
}

TEST(ChatCompletions, WholeAnswerHasEveryKeyOfTheContract) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"Hello", ", ", "Wörld"}, .cached_tokens = 3});
  const Reply reply = replica.post(kChat, chat_body());
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.headers.at("content-type"), "application/json");
  EXPECT_EQ(reply.headers.at("x-model"), "fake");
  EXPECT_TRUE(reply.headers.contains("openai-processing-ms"));
  EXPECT_TRUE(reply.headers.at("x-request-id").starts_with("req-"));
  const json::object body = body_of(reply);
  EXPECT_TRUE(body.at("id").as_string().starts_with("chatcmpl-"));
  EXPECT_EQ(body.at("object"), "chat.completion");
  EXPECT_EQ(body.at("model"), "fake");
  EXPECT_EQ(body.at("system_fingerprint"), "fake-0");
  EXPECT_EQ(content(body), "Hello, Wörld");
  EXPECT_EQ(choice(body).at("finish_reason"), "stop");
  EXPECT_TRUE(choice(body).at("logprobs").is_null());
  EXPECT_TRUE(choice(body).at("message").at("refusal").is_null());
  EXPECT_FALSE(choice(body).at("message").as_object().contains("tool_calls"));
  EXPECT_EQ(body.at("usage").at("prompt_tokens_details").at("cached_tokens"), 3);
  EXPECT_EQ(body.at("usage").at("completion_tokens_details").at("reasoning_tokens"), 0);
  EXPECT_EQ(body.at("usage").at("total_tokens").to_number<int64_t>(),
            body.at("usage").at("prompt_tokens").to_number<int64_t>() +
                body.at("usage").at("completion_tokens").to_number<int64_t>());
}

TEST(ChatCompletions, StreamFollowsTheRules) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"One", " two", " three"}, .delay = std::chrono::milliseconds(5)});
  const Reply reply =
      replica.post(kChat, chat_body(R"("stream":true,"stream_options":{"include_usage":true})"));
  ASSERT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("content-type"), "text/event-stream; charset=utf-8");
  EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(reply.headers.at("x-accel-buffering"), "no");
  EXPECT_TRUE(reply.complete);
  const Events events = parse_events(reply.body);
  EXPECT_TRUE(events.done);
  ASSERT_GE(events.items.size(), 4U);
  EXPECT_EQ(choice(events.items[0]).at("delta").at("role"), "assistant");
  EXPECT_EQ(choice(events.items[0]).at("delta").at("content"), "");
  std::string text;
  int finishes = 0;
  for (size_t i = 0; i + 1 < events.items.size(); ++i) {
    const json::object& event = events.items[i];
    EXPECT_EQ(event.at("id"), events.items[0].at("id"));
    EXPECT_EQ(event.at("object"), "chat.completion.chunk");
    EXPECT_TRUE(event.at("usage").is_null());
    if (const auto* piece = choice(event).at("delta").as_object().if_contains("content"))
      text += std::string(piece->as_string());
    finishes += !choice(event).at("finish_reason").is_null();
  }
  EXPECT_EQ(text, "One two three");
  EXPECT_EQ(finishes, 1);
  EXPECT_TRUE(events.items.back().at("choices").as_array().empty());
  EXPECT_TRUE(events.items.back().at("usage").is_object());
}

TEST(ChatCompletions, StreamWithoutUsageHasNone) {
  TestReplica replica;
  const Events events = parse_events(replica.post(kChat, chat_body(R"("stream":true)")).body);
  EXPECT_TRUE(events.done);
  for (const json::object& event : events.items) EXPECT_FALSE(event.contains("usage"));
}

TEST(ChatCompletions, RendersTheConversationAsTypes) {
  TestReplica replica;
  const Reply reply = replica.post(kChat, R"({"model":"fake","max_tokens":5,"messages":[
      {"role":"developer","content":"be brief"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},
      {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{}"}}]},
      {"role":"tool","tool_call_id":"c1","content":"42"}]})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const auto conversation = replica.model().conversations().at(0);
  ASSERT_EQ(conversation.messages.size(), 4U);
  EXPECT_EQ(conversation.messages[0].role, "system");
  EXPECT_EQ(conversation.messages[1].content, "a\nb");
  EXPECT_FALSE(conversation.messages[2].content.has_value());
  EXPECT_EQ(conversation.messages[2].tool_calls.size(), 1U);
  EXPECT_EQ(conversation.messages[3].tool_call_id, "c1");
}

TEST(ChatCompletions, EverySamplingParameterArrives) {
  TestReplica replica;
  const Reply reply = replica.post(
      kChat, chat_body(R"("max_completion_tokens":7,"temperature":0.5,"top_p":0.9,"top_k":40,"min_p":0.1,
      "presence_penalty":1,"frequency_penalty":-1,"repetition_penalty":1.1,"seed":-3,"n":2,"stop":["x","yy"],"stop_token_ids":[5],
      "logit_bias":{"7":-100},"min_tokens":2,"ignore_eos":true,"logprobs":true,"top_logprobs":2,"cache_salt":"s",
      "include_stop_str_in_output":true,"skip_special_tokens":false,"speculative.n_max":0)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  const auto requests = replica.model().requests();
  ASSERT_EQ(requests.size(), 2U);
  const chat::SamplingParameters& sampling = requests[1].sampling;
  EXPECT_EQ(sampling.max_tokens, 7);
  EXPECT_EQ(sampling.temperature, 0.5);
  EXPECT_EQ(sampling.top_p, 0.9);
  EXPECT_EQ(sampling.top_k, 40);
  EXPECT_EQ(sampling.draft_tokens, 0);
  EXPECT_EQ(sampling.min_p, 0.1);
  EXPECT_EQ(sampling.presence_penalty, 1);
  EXPECT_EQ(sampling.frequency_penalty, -1);
  EXPECT_EQ(sampling.repetition_penalty, 1.1);
  EXPECT_EQ(sampling.seed, static_cast<uint64_t>(-2));  // the second choice draws from seed + 1
  EXPECT_EQ(sampling.stop, (std::vector<std::string>{"x", "yy"}));
  EXPECT_EQ(sampling.stop_token_ids, std::vector<int32_t>{5});
  ASSERT_EQ(sampling.logit_bias.size(), 1U);
  EXPECT_EQ(sampling.logit_bias[0].first, 7);
  EXPECT_EQ(sampling.min_tokens, 2);
  EXPECT_TRUE(sampling.ignore_eos);
  EXPECT_EQ(sampling.logprobs, 2);
  EXPECT_TRUE(sampling.include_stop_in_output);
  EXPECT_FALSE(sampling.skip_special_tokens);
  EXPECT_FALSE(requests[0].cache_salt.empty());
  EXPECT_EQ(body_of(reply).at("choices").as_array().size(), 2U);
}

TEST(ChatCompletions, LogprobsCarryTokensBytesAndAlternatives) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"é"}});
  const json::object body = body_of(replica.post(kChat, chat_body(R"("logprobs":true,"top_logprobs":2)")));
  const json::array& tokens = choice(body).at("logprobs").at("content").as_array();
  ASSERT_EQ(tokens.size(), 2U);  // two bytes, each its own token
  EXPECT_EQ(tokens[0].at("bytes"), json::value({0xC3}));
  EXPECT_EQ(tokens[0].at("token"), "\xEF\xBF\xBD");
  EXPECT_EQ(tokens[0].at("top_logprobs").as_array().size(), 2U);
}

TEST(Completions, TakesAllFormsOfPrompt) {
  TestReplica replica;
  for (const std::string_view prompt : {R"("ab")", R"(["ab"])", "[97,98]", "[[97,98]]"}) {
    const Reply reply =
        replica.post(kCompletions, fmt::format(R"({{"model":"fake","prompt":{},"echo":true}})", prompt));
    ASSERT_EQ(reply.status, 200) << prompt << reply.body;
    EXPECT_EQ(choice(body_of(reply)).at("text"), "abHello, world.");
    EXPECT_EQ(replica.model().requests().back().prompt, (std::vector<int32_t>{97, 98}));
    EXPECT_EQ(replica.model().requests().back().sampling.max_tokens, 16);
  }
}

TEST(Completions, SeveralPromptsTimesNHaveOneChoiceEach) {
  TestReplica replica;
  const json::object body =
      body_of(replica.post(kCompletions, R"({"model":"fake","prompt":["a","bb"],"n":2,"max_tokens":4})"));
  ASSERT_EQ(body.at("choices").as_array().size(), 4U);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(choice(body, i).at("index"), i);
  EXPECT_EQ(body.at("usage").at("prompt_tokens"), 3);  // each prompt once
}

TEST(Completions, EchoWithLogprobsAndNoNewTokensScoresThePrompt) {
  TestReplica replica;
  const json::object body = body_of(replica.post(
      kCompletions, R"({"model":"fake","prompt":"abc","echo":true,"logprobs":1,"max_tokens":0})"));
  EXPECT_EQ(choice(body).at("text"), "abc");
  const json::value& logprobs = choice(body).at("logprobs");
  EXPECT_EQ(logprobs.at("tokens"), json::value({"a", "b", "c"}));
  EXPECT_EQ(logprobs.at("text_offset"), json::value({0, 1, 2}));
  EXPECT_EQ(logprobs.at("token_logprobs").as_array().size(), 3U);
  EXPECT_EQ(logprobs.at("top_logprobs").as_array().size(), 3U);
  EXPECT_EQ(body.at("usage").at("completion_tokens"), 0);
  EXPECT_EQ(choice(body).at("finish_reason"), "length");
}

TEST(Completions, ReturnsTokenIds) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"ok"}});
  const json::object body = body_of(replica.post(
      kCompletions,
      completion_body(R"("return_token_ids":true,"return_tokens_as_token_ids":true,"logprobs":0)")));
  EXPECT_EQ(choice(body).at("prompt_token_ids"), json::value({'H', 'i'}));
  EXPECT_EQ(choice(body).at("token_ids"), json::value({'o', 'k'}));
  EXPECT_EQ(choice(body).at("logprobs").at("tokens"), json::value({"token_id:111", "token_id:107"}));
}

// A stream's pieces put together must be the whole answer, for each way to ask.
TEST(Completions, StreamEqualsWhole) {
  const std::string_view variants[] = {"",
                                       R"("n":3)",
                                       R"("logprobs":2)",
                                       R"("echo":true)",
                                       R"("echo":true,"logprobs":1)",
                                       R"("echo":true,"logprobs":1,"max_tokens":0)",
                                       R"("max_tokens":4,"return_token_ids":true)"};
  for (const std::string_view variant : variants) {
    TestReplica replica;
    const Script script{.pieces = {"Grü", "ße", " an ", "alle", "!"}, .delay = std::chrono::milliseconds(2)};
    for (int i = 0; i < 6; ++i) replica.model().add_script(script);
    const json::object whole = body_of(replica.post(kCompletions, completion_body(variant)));
    const std::string comma = variant.empty() ? "" : ",";
    const Events events = parse_events(
        replica.post(kCompletions, completion_body(std::string(variant) + comma + R"("stream":true)")).body);
    ASSERT_TRUE(events.done) << variant;
    for (const json::value& entry : whole.at("choices").as_array()) {
      std::string text;
      json::array tokens, offsets, ids;
      json::value finish;
      for (const json::object& event : events.items) {
        const json::object& part = choice(event);
        if (part.at("index") != entry.at("index")) continue;
        text += std::string(part.at("text").as_string());
        if (!part.at("finish_reason").is_null()) finish = part.at("finish_reason");
        if (const auto* more = part.if_contains("token_ids"))
          for (const auto& id : more->as_array()) ids.push_back(id);
        if (part.at("logprobs").is_null()) continue;
        for (const auto& token : part.at("logprobs").at("tokens").as_array()) tokens.push_back(token);
        for (const auto& offset : part.at("logprobs").at("text_offset").as_array()) offsets.push_back(offset);
      }
      EXPECT_EQ(text, std::string_view(entry.at("text").as_string())) << variant;
      EXPECT_EQ(finish, entry.at("finish_reason")) << variant;
      if (const auto* all = entry.as_object().if_contains("token_ids")) {
        EXPECT_EQ(ids, all->as_array());
      }
      if (entry.at("logprobs").is_null()) continue;
      EXPECT_EQ(tokens, entry.at("logprobs").at("tokens").as_array()) << variant;
      EXPECT_EQ(offsets, entry.at("logprobs").at("text_offset").as_array()) << variant;
    }
  }
}

TEST(Streams, PingWhileNothingComes) {
  ReplicaOptions options;
  options.ping = std::chrono::milliseconds(30);
  TestReplica replica(std::move(options));
  replica.model().add_script({.pieces = {"late"}, .first_delay = std::chrono::milliseconds(200)});
  const Events events = parse_events(replica.post(kChat, chat_body(R"("stream":true)")).body);
  EXPECT_GE(events.comments, 3);
  EXPECT_TRUE(events.done);
}

TEST(Streams, AnErrorInTheMiddleEndsWithoutDone) {
  TestReplica replica;
  replica.model().add_script(
      {.pieces = {"par", "tial"}, .error = Error(ErrorCode::internal, "secret /root/x 0xdeadbeef")});
  const Reply reply = replica.post(kChat, chat_body(R"("stream":true)"));
  ASSERT_EQ(reply.status, 200);
  EXPECT_EQ(reply.headers.at("connection"), "keep-alive");
  const Events events = parse_events(reply.body);
  EXPECT_FALSE(events.done);
  ASSERT_FALSE(events.items.empty());
  const json::value& error = events.items.back().at("error");
  EXPECT_EQ(error.at("type"), "server_error");
  EXPECT_EQ(error.at("code"), "internal_error");
  EXPECT_THAT(reply.body, ::testing::Not(HasSubstr("secret")));
  EXPECT_EQ(std::string_view(error.at("request_id").as_string()), reply.headers.at("x-request-id"));
}

TEST(Requests, AreCancelledByEitherId) {
  TestReplica replica;
  for (const bool by_request_id : {true, false}) {
    replica.model().add_script({.pieces = {"a"}, .stall = true});
    net::testing::RawClient client(replica.port());
    client.send(net::testing::post(kChat, chat_body(R"("stream":true)"), "X-Request-Id: job-7\r\n"));
    ASSERT_TRUE(client.read_until("\"content\":\"a\""));
    const size_t at = client.seen().find("chatcmpl-");
    const std::string id =
        by_request_id ? "job-7" : client.seen().substr(at, client.seen().find('"', at) - at);
    const Reply cancel = replica.post("/v1/requests/" + id + "/cancel", "");
    EXPECT_EQ(cancel.status, 200) << cancel.body;
    ASSERT_TRUE(client.read_until("request_cancelled"));
    EXPECT_TRUE(client.closed_by_peer());
    EXPECT_EQ(client.seen().find("[DONE]"), std::string::npos);
  }
  EXPECT_TRUE(eventually([&] { return replica.model().active() == 0; }));
  EXPECT_EQ(replica.post("/v1/requests/job-7/cancel", "").status, 404);
}

TEST(Completions, ASuffixAsksForTheMiddle) {
  auto info = chat::testing::FakeChatModel::default_info();
  info.fill_in = chat::FillInTokens{1, 2, 3};
  TestReplica replica({}, info);
  EXPECT_EQ(replica.post("/v1/completions", completion_body(R"("suffix":"end")")).status, 200);
  EXPECT_EQ(replica.model().requests().at(0).prompt,
            (std::vector<int32_t>{1, 'H', 'i', 2, 'e', 'n', 'd', 3}));
  EXPECT_EQ(replica.post("/v1/completions", completion_body(R"("suffix":"end","echo":true)")).status, 400);
  EXPECT_EQ(replica.post("/v1/completions", completion_body(R"("suffix":"")")).status, 200);
  EXPECT_EQ(replica.model().requests().at(1).prompt, (std::vector<int32_t>{'H', 'i'}));
}

}  // namespace
}  // namespace neutrino::server::testing
