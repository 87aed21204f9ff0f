// Tools and reasoning over HTTP: what a body asks, and how answers with them are written down.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/answer_syntax.h"
#include "server/testing/test_replica.h"
#include "text/constraints.h"

namespace neutrino::server {
namespace {

using chat::testing::Script;
using net::testing::Reply;
using testing::chat_body;
using ::testing::HasSubstr;
using testing::TestReplica;

constexpr std::string_view kChat = "/v1/chat/completions";
constexpr std::string_view kTools =
    R"("tools":[{"type":"function","function":{"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}}},)"
    R"({"type":"function","function":{"name":"now"}}])";

chat::ChatModelInfo thinking_info() {
  chat::ChatModelInfo info = chat::testing::FakeChatModel::default_info();
  info.chat_template = "messages tools enable_thinking";
  info.answer.reasoning = chat::find_reasoning_tags("think");
  return info;
}

const std::vector<std::string> kAnswer = {"<think>\nHm",
                                          ".</thi",
                                          "nk>\n\nI lo",
                                          "ok.\n<tool_",
                                          "call>\n{\"name\": \"weather\", \"argu",
                                          "ments\": {\"city\": \"K",
                                          "\xC3\xB6ln\"}}\n</tool_call>\n<tool_call>",
                                          "\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"};

json::object message_of(const Reply& reply) {
  EXPECT_EQ(reply.status, 200) << reply.body;
  return parse_json(reply.body).at("choices").at(0).at("message").as_object();
}

// A stream's deltas, put together as clients do; call ids are those of the deltas.
json::object joined(const std::vector<json::object>& events, std::string& finish) {
  json::object message = {{"content", ""}};
  for (const json::object& event : events) {
    if (event.at("choices").as_array().empty()) continue;
    const json::object& choice = event.at("choices").at(0).as_object();
    if (choice.at("finish_reason").is_string()) finish = choice.at("finish_reason").as_string();
    for (const auto& [key, value] : choice.at("delta").as_object()) {
      if (key == "role") continue;
      if (key != "tool_calls") {
        if (!message.contains(key)) message[key] = "";
        message[key].as_string() += value.as_string();
        continue;
      }
      json::array& calls = message.contains(key) ? message[key].as_array() : message[key].emplace_array();
      for (const json::value& delta : value.as_array()) {
        const auto index = static_cast<size_t>(delta.at("index").as_int64());
        if (index == calls.size()) {
          EXPECT_TRUE(delta.at("id").as_string().starts_with("call_"));
          calls.push_back(json::object{{"name", delta.at("function").at("name")}, {"arguments", ""}});
        }
        calls[index].at("arguments").as_string() += delta.at("function").at("arguments").as_string();
      }
    }
  }
  return message;
}

TEST(Tools, CallsAreAMessageWithTheirReasoning) {
  TestReplica replica({}, thinking_info());
  replica.model().add_script({.pieces = kAnswer});
  const Reply reply = replica.post(kChat, chat_body(kTools));
  const json::object message = message_of(reply);
  EXPECT_EQ(message.at("content"), "I look.");
  EXPECT_EQ(message.at("reasoning_content"), "Hm.");
  EXPECT_EQ(message.at("reasoning"), "Hm.");
  const json::array& calls = message.at("tool_calls").as_array();
  ASSERT_EQ(calls.size(), 2U);
  EXPECT_EQ(calls[0].at("type"), "function");
  EXPECT_EQ(calls[0].at("function").at("name"), "weather");
  EXPECT_EQ(calls[0].at("function").at("arguments"), "{\"city\": \"K\xC3\xB6ln\"}");
  EXPECT_EQ(calls[1].at("function").at("arguments"), "{}");
  EXPECT_NE(calls[0].at("id"), calls[1].at("id"));
  const json::value body = parse_json(reply.body);
  EXPECT_EQ(body.at("choices").at(0).at("finish_reason"), "tool_calls");
  EXPECT_GT(body.at("usage").at("completion_tokens_details").at("reasoning_tokens").to_number<int>(), 0);
  EXPECT_FALSE(reply.headers.contains("x-tool-parse"));
}

TEST(Tools, AStreamIsTheSameAnswer) {
  TestReplica replica({}, thinking_info());
  replica.model().add_script({.pieces = kAnswer, .delay = std::chrono::milliseconds(2)});
  const Reply reply = replica.post(kChat, chat_body(std::string(kTools) + R"(,"stream":true)"));
  std::string finish;
  const testing::Events events = testing::parse_events(reply.body);
  const json::object message = joined(events.items, finish);
  EXPECT_TRUE(events.done);
  EXPECT_EQ(finish, "tool_calls");
  EXPECT_EQ(message.at("content"), "I look.");
  EXPECT_EQ(message.at("reasoning_content"), "Hm.");
  EXPECT_EQ(message.at("reasoning"), "Hm.");
  EXPECT_EQ(message.at("tool_calls"),
            json::value({{{"name", "weather"}, {"arguments", "{\"city\": \"K\xC3\xB6ln\"}"}},
                         {{"name", "now"}, {"arguments", "{}"}}}));
}

TEST(Tools, ContentIsNullBesideCallsAlone) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"<tool_call>{\"name\": \"now\"}</tool_call>"}});
  const json::object called = message_of(replica.post(kChat, chat_body(kTools)));
  EXPECT_TRUE(called.at("content").is_null());
  EXPECT_FALSE(called.contains("reasoning_content"));
  const json::object plain = message_of(replica.post(kChat, chat_body(kTools)));
  EXPECT_EQ(plain.at("content"), "Hello, world.");
  EXPECT_FALSE(plain.contains("tool_calls"));
}

TEST(Tools, WhatDoesNotParseIsContent) {
  TestReplica replica;
  const std::string text = "<tool_call>{\"name\": \"never\", \"arguments\": {}}</tool_call>";
  replica.model().add_script({.pieces = {text}});
  const Reply reply = replica.post(kChat, chat_body(kTools));
  EXPECT_EQ(message_of(reply).at("content"), json::value(text));
  EXPECT_EQ(reply.headers.at("x-tool-parse"), "failed");
  EXPECT_THAT(replica.metrics().text(), HasSubstr("neutrino_tool_parse_failures_total 1"));
  EXPECT_EQ(parse_json(reply.body).at("choices").at(0).at("finish_reason"), "stop");
}

TEST(Tools, WithoutToolsAndInCompletionsTheTextStaysRaw) {
  TestReplica replica;
  const std::string text = "<tool_call>{\"name\": \"now\"}</tool_call>";
  replica.model().add_script({.pieces = {text}});
  EXPECT_EQ(message_of(replica.post(kChat, chat_body())).at("content"), json::value(text));
  replica.model().add_script({.pieces = {text}});
  const Reply reply = replica.post("/v1/completions", testing::completion_body(R"("max_tokens":100)"));
  EXPECT_EQ(parse_json(reply.body).at("choices").at(0).at("text"), json::value(text));
}

TEST(Tools, TheChoiceBecomesAGrammar) {
  TestReplica replica;
  const auto grammar_with = [&](std::string_view more) {
    const Reply reply = replica.post(kChat, chat_body(std::string(kTools) + std::string(more)));
    EXPECT_EQ(reply.status, 200) << reply.body;
    const chat::GenerationRequest request = replica.model().requests().back();
    EXPECT_NE(request.grammar, nullptr);
    return request.grammar;
  };
  const auto accepts = [](const std::shared_ptr<const text::Grammar>& grammar, std::string_view text) {
    text::GrammarMatcher matcher(*grammar);
    for (const char byte : text)
      if (!matcher.consume(static_cast<unsigned char>(byte))) return false;
    return matcher.is_accepting();
  };
  const std::string call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
  const auto automatic = grammar_with("");
  EXPECT_TRUE(accepts(automatic, "Hello <b>"));
  EXPECT_TRUE(accepts(automatic, "Hello\n" + call + "\n" + call));
  EXPECT_FALSE(accepts(automatic, "<tool_call>\n{\"name\": \"weather\", \"arguments\": {}}\n</tool_call>"));
  EXPECT_FALSE(accepts(grammar_with(R"(,"parallel_tool_calls":false)"), call + "\n" + call));
  EXPECT_FALSE(accepts(grammar_with(R"(,"tool_choice":"required")"), "Hello"));
  EXPECT_TRUE(accepts(grammar_with(R"(,"tool_choice":"required")"), call));
  EXPECT_FALSE(
      accepts(grammar_with(R"(,"tool_choice":{"type":"function","function":{"name":"weather"}})"), call));
  EXPECT_FALSE(accepts(grammar_with(R"(,"tool_choice":"none")"), call));
  EXPECT_TRUE(accepts(grammar_with(R"(,"tool_choice":"none")"), "Hello"));
}

TEST(Reasoning, AnEffortIsTheTemplatesSwitchOrABudget) {
  TestReplica replica({}, thinking_info());
  ASSERT_EQ(replica.post(kChat, chat_body(R"("reasoning_effort":"none")")).status, 200);
  EXPECT_EQ(replica.model().conversations().back().template_arguments.at("enable_thinking"), false);
  EXPECT_EQ(replica.model().requests().back().thinking_budget, std::nullopt);
  ASSERT_EQ(replica.post(kChat, chat_body(R"("reasoning_effort":"high")")).status, 200);
  EXPECT_EQ(replica.model().conversations().back().template_arguments.at("enable_thinking"), true);
  chat::ChatModelInfo always = thinking_info();
  always.chat_template = "messages";
  TestReplica other({}, always);
  ASSERT_EQ(other.post(kChat, chat_body(R"("reasoning_effort":"none")")).status, 200);
  EXPECT_EQ(other.model().requests().back().thinking_budget, 0);
  EXPECT_EQ(other.post(kChat, chat_body(R"("reasoning_effort":"low")")).status, 400);
}

TEST(Reasoning, ABudgetHasManyNames) {
  TestReplica replica({}, thinking_info());
  for (const std::string_view field : {R"("thinking_token_budget":7)", R"("max_thinking_tokens":7)",
                                       R"("thinking":{"type":"enabled","budget_tokens":7})"}) {
    ASSERT_EQ(replica.post(kChat, chat_body(field)).status, 200) << field;
    EXPECT_EQ(replica.model().requests().back().thinking_budget, 7) << field;
  }
  EXPECT_EQ(replica.post(kChat, chat_body(R"("thinking_token_budget":7,"max_thinking_tokens":8)")).status,
            400);
  EXPECT_EQ(replica.post(kChat, chat_body(R"("include_reasoning":false)")).status, 200);
}

}  // namespace
}  // namespace neutrino::server
