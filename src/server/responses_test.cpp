// OpenAI's Responses API over the scripted model: what becomes of its bodies, and its answers, streamed and whole.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/responses_format.h"
#include "server/responses_request.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using Kind = chat::AnswerPiece::Kind;
using ::testing::ElementsAre;

constexpr std::string_view kPath = "/v1/responses";

ResponsesBody parsed(std::string_view more) {
  return parse_responses_body(fmt::format(R"({{"model":"fake",{}}})", more));
}

TEST(ResponsesBody, BecomesAChat) {
  const json::object chat = parsed(R"("instructions":"Be brief.","max_output_tokens":9,"input":[
      {"role":"user","content":[{"type":"input_text","text":"Hi"}]},
      {"type":"reasoning","id":"r","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
      {"type":"function_call","call_id":"t1","name":"f","arguments":"{}"},
      {"type":"function_call","call_id":"t2","name":"f","arguments":"{}"},
      {"type":"function_call_output","call_id":"t1","output":"42"},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Yes"}]},
      {"role":"developer","content":"x"}],
      "tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true}],
      "tool_choice":{"type":"function","name":"f"},"reasoning":{"effort":"low"},
      "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true}})")
                                .chat;
  const json::value expected = parse_json(R"({"model":"fake","max_tokens":9,"messages":[
      {"role":"system","content":"Be brief."},
      {"role":"user","content":[{"type":"text","text":"Hi"}]},
      {"reasoning_content":"hm","tool_calls":[
        {"id":"t1","type":"function","function":{"name":"f","arguments":"{}"}},
        {"id":"t2","type":"function","function":{"name":"f","arguments":"{}"}}],"role":"assistant"},
      {"role":"tool","tool_call_id":"t1","content":"42"},
      {"content":[{"type":"text","text":"Yes"}],"role":"assistant"},
      {"role":"developer","content":"x"}],
      "tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"},"strict":true}}],
      "tool_choice":{"type":"function","function":{"name":"f"}},"reasoning_effort":"low",
      "response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"object"},"strict":true}}})");
  EXPECT_EQ(json::value(chat), expected) << to_text(chat);
}

TEST(ResponsesBody, RefusesByName) {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {R"("input":[])", "input"},
      {R"("input":[{"role":"tool","content":"x"}])", "input[0].role"},
      {R"("input":[{"role":"user","content":[{"type":"input_file"}]}])", "input[0].content[0].type"},
      {R"("input":[{"type":"computer_call"}])", "input[0].type"},
      {R"("input":[{"type":"function_call","name":"f","arguments":"{}"}])", "input[0].call_id"},
      {R"("input":"a","tools":[{"type":"mcp"}])", "tools[0].type"},
      {R"("input":"a","tool_choice":{"type":"allowed_tools"})", "tool_choice.type"},
      {R"("input":"a","text":{"format":{"type":"grammar"}})", "text.format.type"},
      {R"("input":"a","text":{"verbosity":"high"})", "text.verbosity"},
      {R"("input":"a","reasoning":{"budget":1})", "reasoning.budget"},
      {R"("input":"a","include":["code_interpreter_call.outputs"])", "include"},
      {R"("input":"a","store":true)", "store"},
      {R"("input":"a","background":true)", "background"},
      {R"("input":"a","conversation":"c")", "conversation"},
  };
  for (const auto& [more, param] : cases) {
    try {
      parsed(more);
      ADD_FAILURE() << more;
    } catch (const Error& error) {
      EXPECT_EQ(error.param(), param) << more;
    }
  }
}

TEST(Responses, AnAnswerInBothForms) {
  TestReplica replica;
  const auto reply = replica.post(kPath, R"({"model":"fake","input":"Hi","store":false,"temperature":0.5})");
  ASSERT_EQ(reply.status, 200) << reply.body;
  const json::value whole = parse_json(reply.body);
  EXPECT_EQ(whole.at("object"), "response");
  EXPECT_EQ(whole.at("status"), "completed");
  EXPECT_EQ(whole.at("store"), false);
  EXPECT_EQ(whole.at("temperature"), 0.5);
  EXPECT_EQ(whole.at("output").at(0).at("content").at(0).at("text"), "Hello, world.");
  EXPECT_EQ(whole.at("usage").at("output_tokens"), 13);

  const auto streamed = replica.post(kPath, R"({"model":"fake","input":"Hi","stream":true})");
  EXPECT_THAT(streamed.body, ::testing::StartsWith("event: response.created\ndata: {"));
  EXPECT_THAT(streamed.body, ::testing::HasSubstr("event: response.completed\ndata: {"));
  const auto missing = replica.post(kPath, R"({"model":"fake","input":"Hi","previous_response_id":"r"})");
  EXPECT_EQ(missing.status, 404);
}

TEST(ResponsesFormat, ItemsInOrder) {
  const std::vector<chat::AnswerPiece> pieces = {
      {.kind = Kind::reasoning, .text = "hm"},
      {.kind = Kind::content, .text = "te"},
      {.kind = Kind::content, .text = "xt"},
      {.kind = Kind::call_begin, .call = 0, .call_id = "c0", .name = "f"},
      {.kind = Kind::call_arguments, .text = "{}", .call = 0},
      {.kind = Kind::call_end, .call = 0},
  };
  InferenceRequest request;
  request.model = "fake";
  Answer answer{.id = "resp_1", .request = &request};
  Choice& choice = answer.choices.emplace_back();
  choice.finish_reason = chat::FinishReason::stop;
  choice.pieces = pieces;
  const ResponsesFormat format(json::object{});
  std::vector<std::string> names;
  std::vector<json::object> all;
  const auto keep = [&](const std::vector<json::object>& events) {
    for (const json::object& event : events)
      names.emplace_back(format.event_name(event)), all.push_back(event);
  };
  for (const chat::AnswerPiece& piece : pieces) keep(format.piece(answer, choice, {.pieces = {piece}}));
  keep(format.finish(answer, choice));
  EXPECT_THAT(
      names,
      ElementsAre(
          "response.output_item.added", "response.content_part.added", "response.reasoning_text.delta",
          "response.reasoning_text.done", "response.content_part.done", "response.output_item.done",
          "response.output_item.added", "response.content_part.added", "response.output_text.delta",
          "response.output_text.delta", "response.output_text.done", "response.content_part.done",
          "response.output_item.done", "response.output_item.added", "response.function_call_arguments.delta",
          "response.function_call_arguments.done", "response.output_item.done", "response.completed"));
  for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(all[i].at("sequence_number"), i);
  const json::object whole = format.whole(answer);
  EXPECT_EQ(all.back().at("response").at("output"), whole.at("output"));
  EXPECT_EQ(whole.at("output").at(2).at("arguments"), "{}");
  EXPECT_EQ(whole.at("output").at(2).at("call_id"), "c0");
}

}  // namespace
}  // namespace neutrino::server::testing
