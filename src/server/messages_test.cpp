// Anthropic's API over the scripted model: what becomes of its bodies, and its answers, streamed and whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/messages_format.h"
#include "server/messages_request.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using Kind = chat::AnswerPiece::Kind;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::string_view kPath = "/v1/messages";

std::string body_with(std::string_view more) {
  return fmt::format(R"({{"model":"fake","max_tokens":100,{}}})", more);
}

json::object chat_of(std::string_view more) {
  return parse_messages_body(body_with(more), MessagesUse::answer).chat;
}

TEST(MessagesBody, BecomesAChat) {
  const json::object chat = chat_of(R"("system":[{"type":"text","text":"Be brief."}],"stop_sequences":["x"],
      "messages":[{"role":"user","content":"Hi"},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"text","text":"Yes"},
          {"type":"tool_use","id":"t1","name":"f","input":{"a":1}}]},
        {"role":"user","content":[{"type":"tool_result","tool_use_id":"t1","content":"42","is_error":true},
          {"type":"text","text":"and?"}]}],
      "tools":[{"name":"f","description":"d","input_schema":{"type":"object"}}],
      "tool_choice":{"type":"any","disable_parallel_tool_use":true},"thinking":{"type":"enabled","budget_tokens":64})");
  const json::value expected = parse_json(R"({"model":"fake","max_tokens":100,"stop":["x"],"messages":[
      {"role":"system","content":[{"type":"text","text":"Be brief."}]},
      {"role":"user","content":"Hi"},
      {"role":"assistant","content":[{"type":"text","text":"Yes"}],"reasoning_content":"hm",
       "tool_calls":[{"id":"t1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
      {"role":"tool","tool_call_id":"t1","content":[{"type":"text","text":"Error:"},{"type":"text","text":"42"}]},
      {"role":"user","content":[{"type":"text","text":"and?"}]}],
      "tools":[{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"}}}],
      "tool_choice":"required","parallel_tool_calls":false,"thinking":{"type":"enabled","budget_tokens":64}})");
  EXPECT_EQ(json::value(chat), expected) << to_text(chat);
}

TEST(MessagesBody, APrefillIsContinued) {
  const json::object chat =
      chat_of(R"("messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Well"}])");
  EXPECT_EQ(chat.at("continue_final_message"), true);
}

TEST(MessagesBody, RefusesByName) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {R"("messages":[])", "messages"},
      {R"("messages":[1])", "messages[0]"},
      {R"("messages":[{"role":"user"}])", "messages[0].content"},
      {R"("messages":[{"role":"user","content":[]}])", "messages[0].content"},
      {R"("messages":[{"role":"user","content":[{"type":"image"}]}])", "messages[0].content[0].type"},
      {R"("messages":[{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"("messages":[{"role":"assistant","content":[{"type":"redacted_thinking","data":"x"}]}])",
       "messages[0].content[0].type"},
      {R"("messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{}}]}])",
       "messages[0]"},
      {R"("messages":[{"role":"user","content":"a"}],"tools":[{"type":"bash_20250124","name":"bash"}])",
       "tools[0].type"},
      {R"("messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"every"})", "tool_choice.type"},
      {R"("messages":[{"role":"user","content":"a"}],"thinking":{"type":"enabled","budget_tokens":100})",
       "thinking.budget_tokens"},
      {R"("messages":[{"role":"user","content":"a"}],"mcp_servers":[{}])", "mcp_servers"},
      {R"("messages":[{"role":"user","content":"a"}],"output_config":{"task_budget":1})",
       "output_config.task_budget"},
  };
  for (const auto& [more, param] : cases) {
    try {
      chat_of(more);
      ADD_FAILURE() << more;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_EQ(error.param(), param) << more;
    }
  }
}

TEST(Messages, AnAnswerInBothForms) {
  TestReplica replica;
  const std::string body = body_with(R"("messages":[{"role":"user","content":"Hi"}])");
  const json::value whole = parse_json(replica.post(kPath, body).body);
  EXPECT_EQ(whole.at("type"), "message");
  EXPECT_EQ(whole.at("content").at(0).at("text"), "Hello, world.");
  EXPECT_EQ(whole.at("stop_reason"), "end_turn");
  EXPECT_EQ(whole.at("usage").at("output_tokens"), 13);

  const auto reply =
      replica.post(kPath, body_with(R"("stream":true,"messages":[{"role":"user","content":"Hi"}])"));
  EXPECT_THAT(reply.body, ::testing::StartsWith("event: message_start\ndata: {\"type\":\"message_start\""));
  EXPECT_THAT(reply.body, HasSubstr("event: content_block_delta\ndata: "));
  EXPECT_THAT(reply.body, ::testing::Not(HasSubstr("[DONE]")));
  EXPECT_THAT(reply.body, ::testing::EndsWith("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}

TEST(Messages, ErrorsHaveAnthropicsShapeAndStatus) {
  TestReplica replica;
  const std::string body = body_with(R"("messages":[{"role":"user","content":"Hi"}])");
  replica.model().refuse_next(Error(ErrorCode::resource_exhausted, "full").with_reason("queue_full"));
  const auto full = replica.post(kPath, body);
  EXPECT_EQ(full.status, 529);
  EXPECT_EQ(parse_json(full.body).at("error").at("type"), "overloaded_error");
  EXPECT_TRUE(full.headers.contains("retry-after"));
  replica.model().refuse_next(
      Error(ErrorCode::resource_exhausted, "slow").with_reason("rate_limit_exceeded"));
  EXPECT_EQ(replica.post(kPath, body).status, 429);
  const auto bad = replica.post(kPath, R"({"model":"fake","max_tokens":0,"messages":[]})");
  EXPECT_EQ(bad.status, 400);
  EXPECT_EQ(parse_json(bad.body).at("type"), "error");

  replica.model().add_script({.pieces = {"a"}, .error = Error(ErrorCode::internal, "x")});
  const auto cut =
      replica.post(kPath, body_with(R"("stream":true,"messages":[{"role":"user","content":"Hi"}])"));
  EXPECT_THAT(cut.body,
              HasSubstr("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""));
}

TEST(Messages, CountsTokensAsAnAnswerDoes) {
  TestReplica replica;
  const std::string_view messages = R"("messages":[{"role":"user","content":"Hi"}])";
  const json::value counted = parse_json(
      replica.post("/v1/messages/count_tokens", fmt::format(R"({{"model":"fake",{}}})", messages)).body);
  const json::value whole = parse_json(replica.post(kPath, body_with(messages)).body);
  EXPECT_EQ(counted.at("input_tokens"), whole.at("usage").at("input_tokens"));
}

// What only an answer has is unknown here, of whatever type.
TEST(Messages, CountingReadsNoFieldThatItDoesNotHave) {
  const std::string body = R"({"model":"fake","stream":[1],"max_tokens":"x","temperature":{},
      "messages":[{"role":"user","content":"Hi"}],"thinking":{"type":"enabled","budget_tokens":64}})";
  const MessagesBody read = parse_messages_body(body, MessagesUse::count);
  EXPECT_THAT(read.ignored, ElementsAre("stream", "max_tokens", "temperature"));
  EXPECT_FALSE(read.chat.contains("max_tokens"));
  EXPECT_FALSE(read.stream);
}

// Reasoning, text and two calls, cut anywhere: the events build what the whole message says.
TEST(MessagesFormat, BlocksInOrder) {
  const std::vector<chat::AnswerPiece> pieces = {
      {.kind = Kind::reasoning, .text = "thin"},
      {.kind = Kind::reasoning, .text = "king"},
      {.kind = Kind::content, .text = "text"},
      {.kind = Kind::call_begin, .call = 0, .call_id = "c0", .name = "f"},
      {.kind = Kind::call_arguments, .text = R"({"a")", .call = 0},
      {.kind = Kind::call_arguments, .text = ":1}", .call = 0},
      {.kind = Kind::call_end, .call = 0},
      {.kind = Kind::call_begin, .call = 1, .call_id = "c1", .name = "g"},
      {.kind = Kind::call_end, .call = 1},
  };
  InferenceRequest request;
  request.model = "fake";
  Answer answer{.id = "msg_1", .request = &request};
  Choice& choice = answer.choices.emplace_back();
  choice.finish_reason = chat::FinishReason::stop;
  choice.pieces = pieces;
  const MessagesFormat format;
  std::vector<std::string> names;
  const auto keep = [&](const std::vector<json::object>& events) {
    for (const json::object& event : events) names.emplace_back(format.event_name(event));
  };
  for (const chat::AnswerPiece& piece : pieces) keep(format.piece(answer, choice, {.pieces = {piece}}));
  keep(format.finish(answer, choice));
  EXPECT_THAT(names, ElementsAre("content_block_start", "content_block_delta", "content_block_delta",
                                 "content_block_stop", "content_block_start", "content_block_delta",
                                 "content_block_stop", "content_block_start", "content_block_delta",
                                 "content_block_delta", "content_block_stop", "content_block_start",
                                 "content_block_stop", "message_delta", "message_stop"));
  const json::object whole = format.whole(answer);
  EXPECT_EQ(whole.at("stop_reason"), "tool_use");
  EXPECT_EQ(whole.at("content"), parse_json(R"([{"type":"thinking","thinking":"thinking","signature":""},
      {"type":"text","text":"text"},{"type":"tool_use","id":"c0","name":"f","input":{"a":1}},
      {"type":"tool_use","id":"c1","name":"g","input":{}}])"));
}

}  // namespace
}  // namespace neutrino::server::testing
