// Every way to ask wrongly, and what it is answered: status, code and the path of the field at fault.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include "base/file.h"
#include "server/nested_keys.h"
#include "server/routes.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;

constexpr std::string_view kChat = "/v1/chat/completions";
constexpr std::string_view kCompletions = "/v1/completions";

json::object error_of(const Reply& reply) {
  const json::object error = parse_json(reply.body).at("error").as_object();
  for (const std::string_view key : {"message", "type", "param", "code", "request_id"})
    EXPECT_TRUE(error.contains(key)) << reply.body;
  return error;
}

std::string text_of(const json::value& value) {
  return value.is_string() ? std::string(value.get_string()) : "";
}

struct Case {
  std::string_view more;  // fields that are added to a good body
  std::string_view code, param;
};

void check_cases(std::string_view path, std::string (*body)(std::string_view), std::span<const Case> cases) {
  TestReplica replica;
  for (const Case& test : cases) {
    const Reply reply = replica.post(path, body(test.more));
    const std::string label(test.more.substr(0, 200));
    ASSERT_EQ(reply.status, 400) << label << reply.body;
    const json::object error = error_of(reply);
    EXPECT_EQ(text_of(error.at("code")), test.code) << label;
    EXPECT_EQ(text_of(error.at("param")), test.param) << label;
    EXPECT_EQ(error.at("type"), "invalid_request_error");
    EXPECT_LT(reply.body.size(), 3000U);
  }
  EXPECT_TRUE(replica.model().requests().empty());  // nothing got through
  EXPECT_EQ(replica.post(path, body("")).status, 200);
}

TEST(Requests, SharedFieldsAreChecked) {
  const Case cases[] = {
      {R"("temperature":-0.1)", "invalid_value", "temperature"},
      {R"("temperature":2.1)", "invalid_value", "temperature"},
      {R"("temperature":1e999)", "invalid_value", "temperature"},
      {R"("temperature":"1")", "invalid_type", "temperature"},
      {R"("temperature":[1])", "invalid_type", "temperature"},
      {R"("top_p":0)", "invalid_value", "top_p"},
      {R"("top_p":1.1)", "invalid_value", "top_p"},
      {R"("top_k":-2)", "invalid_value", "top_k"},
      {R"("top_k":1.5)", "invalid_value", "top_k"},
      {R"("min_p":2)", "invalid_value", "min_p"},
      {R"("presence_penalty":3)", "invalid_value", "presence_penalty"},
      {R"("frequency_penalty":-3)", "invalid_value", "frequency_penalty"},
      {R"("repetition_penalty":0)", "invalid_value", "repetition_penalty"},
      {R"("seed":18446744073709551615)", "invalid_value", "seed"},
      {R"("seed":"1")", "invalid_type", "seed"},
      {R"("n":0)", "invalid_value", "n"},
      {R"("n":9)", "invalid_value", "n"},
      {R"("n":2147483648)", "invalid_value", "n"},
      {R"("n":1e308)", "invalid_value", "n"},
      {R"("n":"8")", "invalid_type", "n"},
      {R"("n":[])", "invalid_type", "n"},
      {R"("speculative.n_max":-1)", "invalid_value", "speculative.n_max"},
      {R"("speculative.n_max":true)", "invalid_type", "speculative.n_max"},
      {R"("max_tokens":0)", "invalid_value", "max_tokens"},
      {R"("max_tokens":-1)", "invalid_value", "max_tokens"},
      {R"("max_tokens":5000)", "context_length_exceeded", "max_tokens"},
      {R"("max_tokens":9223372036854775807)", "context_length_exceeded", "max_tokens"},
      {R"("min_tokens":9,"max_tokens":8)", "invalid_value", "min_tokens"},
      {R"("stop":"")", "invalid_value", "stop"},
      {R"("stop":["a",""])", "invalid_value", "stop[1]"},
      {R"("stop":[1])", "invalid_type", "stop[0]"},
      {R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])",
       "invalid_value", "stop"},
      {R"("stop_token_ids":[257])", "invalid_value", "stop_token_ids[0]"},
      {R"("stop_token_ids":[-1])", "invalid_value", "stop_token_ids[0]"},
      {R"("stop_token_ids":["1"])", "invalid_value", "stop_token_ids[0]"},
      {R"("logit_bias":{"257":1})", "invalid_value", "logit_bias.257"},
      {R"("logit_bias":{"-1":1})", "invalid_value", "logit_bias.-1"},
      {R"("logit_bias":{"x":1})", "invalid_value", "logit_bias.x"},
      {R"("logit_bias":{"1":101})", "invalid_value", "logit_bias.1"},
      {R"("logit_bias":{"1":"a"})", "invalid_value", "logit_bias.1"},
      {R"("logit_bias":[])", "invalid_type", "logit_bias"},
      {R"("stream":"true")", "invalid_type", "stream"},
      {R"("stream_options":{"include_usage":true})", "invalid_value", "stream_options"},
      {R"("stream":true,"stream_options":{"include_usage":1})", "invalid_type",
       "stream_options.include_usage"},
      {R"("stream":true,"stream_options":{"other":true})", "unsupported_parameter", "stream_options.other"},
      {R"("truncate_prompt_tokens":0)", "invalid_value", "truncate_prompt_tokens"},
      {R"("response_format":{"type":"yaml"})", "invalid_value", "response_format.type"},
      {R"("response_format":"json")", "invalid_type", "response_format"},
      {R"("guided_json":7)", "invalid_type", "guided_json"},
      {R"("guided_decoding_backend":"outlines")", "unsupported_parameter", "guided_decoding_backend"},
      {R"("guided_regex":"(")", "invalid_grammar", "guided_regex"},
      {R"("grammar":"root ::= x")", "invalid_grammar", "grammar"},
      {R"("nvext":{"use_raw_prompt":true})", "unsupported_parameter", "nvext.use_raw_prompt"},
      {R"("best_of":2)", "unsupported_parameter", "best_of"},
      {R"("use_beam_search":true)", "unsupported_parameter", "use_beam_search"},
      {R"("store":true)", "unsupported_parameter", "store"},
      {R"("seed":1,"seed":2)", "invalid_json", ""},
      {R"("seed":01)", "invalid_json", ""},
      {R"("seed":NaN)", "invalid_json", ""},
      {R"("seed":1,)", "invalid_json", ""},
  };
  check_cases(kChat, chat_body, cases);
  check_cases(kCompletions, completion_body, cases);
}

TEST(Requests, ChatFieldsAreChecked) {
  const Case cases[] = {
      {R"("max_tokens":5,"max_completion_tokens":6)", "invalid_value", "max_completion_tokens"},
      {R"("max_completion_tokens":0)", "invalid_value", "max_completion_tokens"},
      {R"("top_logprobs":2)", "invalid_value", "top_logprobs"},
      {R"("logprobs":true,"top_logprobs":21)", "invalid_value", "top_logprobs"},
      {R"("logprobs":1)", "invalid_type", "logprobs"},
      {R"("tool_choice":"required")", "invalid_value", "tool_choice"},
      {R"("tool_choice":"always")", "invalid_value", "tool_choice"},
      {R"("tool_choice":7)", "invalid_type", "tool_choice"},
      {R"("tool_choice":{"type":"function","function":{"name":"f"}})", "invalid_value",
       "tool_choice.function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function"})",
       "invalid_type", "tool_choice.function"},
      {R"("tools":[{"type":"function","function":{"name":"f"}},{"type":"function","function":{"name":"f"}}])",
       "invalid_value", "tools[1].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"a b"}}])", "invalid_value",
       "tools[0].function.name"},
      {R"("tools":[{"type":"function","function":{"name":"f","strict":1}}])", "invalid_type",
       "tools[0].function.strict"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":[]}}])", "invalid_json_schema",
       "tools[0].function.parameters"},
      {R"("tools":[{"type":"function","function":{"name":"f","parameters":{"type":"array"}}}])",
       "invalid_json_schema", "tools[0].function.parameters.type"},
      {R"("parallel_tool_calls":"no")", "invalid_type", "parallel_tool_calls"},
      {R"("tools":[{"type":"function"}],"tool_choice":"none")", "invalid_type", "tools[0].function"},
      {R"("tools":[7],"tool_choice":"none")", "invalid_type", "tools[0]"},
      {R"("functions":[{"name":"f"}])", "unsupported_parameter", "functions"},
      {R"("reasoning_effort":"high")", "unsupported_parameter", "reasoning_effort"},
      {R"("reasoning_effort":"some")", "invalid_value", "reasoning_effort"},
      {R"("thinking_token_budget":10)", "unsupported_parameter", "thinking_token_budget"},
      {R"("max_thinking_tokens":-1)", "invalid_value", "max_thinking_tokens"},
      {R"("thinking":{"type":"enabled","budget_tokens":10})", "unsupported_parameter",
       "thinking.budget_tokens"},
      {R"("thinking":{"type":"perhaps"})", "invalid_value", "thinking.type"},
      {R"("chat_template_kwargs":{"enable_thinking":false})", "unsupported_parameter",
       "chat_template_kwargs.enable_thinking"},
      {R"("chat_template":"{{ x }}")", "unsupported_parameter", "chat_template"},
      {R"("chat_template_kwargs":{"messages":[]})", "invalid_value", "chat_template_kwargs.messages"},
      {R"("continue_final_message":true)", "invalid_value", "continue_final_message"},
      {R"("modalities":["text","audio"])", "unsupported_parameter", "modalities"},
      {R"("echo":true)", "unsupported_parameter", "echo"},
  };
  check_cases(kChat, chat_body, cases);
}

TEST(Requests, CompletionFieldsAreChecked) {
  const Case cases[] = {
      {R"("logprobs":21)", "invalid_value", "logprobs"},
      {R"("logprobs":true)", "invalid_type", "logprobs"},
      {R"("suffix":"x")", "unsupported_parameter", "suffix"},
  };
  check_cases(kCompletions, completion_body, cases);
}

TEST(Requests, MalformedHistoriesNameTheMessage) {
  const struct {
    std::string_view messages, param;
  } cases[] = {
      {"[]", "messages"},
      {"[1]", "messages[0]"},
      {"[{}]", "messages[0].role"},
      {R"([{"role":"king","content":"x"}])", "messages[0].role"},
      {R"([{"role":"user"}])", "messages[0].content"},
      {R"([{"role":"user","content":5}])", "messages[0].content"},
      {R"([{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}])",
       "messages[0].content[0].type"},
      {R"([{"role":"user","content":[{"type":"text"}]}])", "messages[0].content[0].text"},
      {R"([{"role":"user","content":["x"]}])", "messages[0].content[0]"},
      {R"([{"role":"user","content":"x","name":1}])", "messages[0].name"},
      {R"([{"role":"user","content":"x"},{"role":"assistant"}])", "messages[1].content"},
      {R"([{"role":"user","content":"x","tool_calls":[]}])", "messages[0].tool_calls"},
      {R"([{"role":"tool","content":"x"}])", "messages[0].tool_call_id"},
      {R"([{"role":"tool","content":"x","tool_call_id":"c"}])", "messages[0].tool_call_id"},
      {R"([{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{bad"}}]}])",
       "messages[0].tool_calls[0].function.arguments"},
      {R"([{"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"arguments":"{}"}}]}])",
       "messages[0].tool_calls[0].function.name"},
      {R"([{"role":"assistant","tool_calls":[{"type":"function"}]}])", "messages[0].tool_calls[0].id"},
  };
  TestReplica replica;
  for (const auto& [messages, param] : cases) {
    const Reply reply = replica.post(kChat, fmt::format(R"({{"model":"fake","messages":{}}})", messages));
    ASSERT_EQ(reply.status, 400) << messages << reply.body;
    EXPECT_EQ(text_of(error_of(reply).at("param")), param) << messages;
  }
}

TEST(Requests, PromptsAreChecked) {
  TestReplica replica;
  for (const std::string_view prompt :
       {R"("")", "[]", "[[]]", "[-1]", "[2147483648]", "[257]", "[1.5]", "[\"a\",1]", "[1,\"a\"]", "[null]",
        "5", "null", "{}", "[[1],[[2]]]", "[true]"}) {
    const Reply reply = replica.post(kCompletions, fmt::format(R"({{"model":"fake","prompt":{}}})", prompt));
    EXPECT_EQ(reply.status, 400) << prompt << reply.body;
  }
  std::string many = "[\"a\"";
  for (int i = 0; i < 64; ++i) many += ",\"a\"";
  EXPECT_EQ(replica.post(kCompletions, R"({"model":"fake","prompt":)" + many + "]}").status, 400);
}

TEST(Requests, ContextOverflowTellsBothNumbers) {
  TestReplica replica;
  const json::object error = error_of(replica.post(
      kCompletions, R"({"model":"fake","max_tokens":100,"prompt":")" + std::string(4000, 'a') + "\"}"));
  EXPECT_EQ(error.at("code"), "context_length_exceeded");
  EXPECT_THAT(std::string(error.at("message").as_string()),
              ::testing::AllOf(::testing::HasSubstr("4096"), ::testing::HasSubstr("4100")));
  const Reply cut = replica.post(
      kCompletions, R"({"model":"fake","max_tokens":100,"truncate_prompt_tokens":50,"prompt":"x)" +
                        std::string(5000, 'a') + "\"}");
  EXPECT_EQ(cut.status, 200);
  EXPECT_EQ(replica.model().requests().back().prompt, std::vector<int32_t>(50, 'a'));
}

TEST(Requests, UnknownAndReportedFieldsComeBackInAHeader) {
  TestReplica replica;
  const Reply reply = replica.post(
      kChat,
      chat_body(
          R"("invented":1,"service_tier":"auto","bad\nname":2,"user":"u","metadata":{"a":"b"},"store":false,"n":1,"best_of":1)"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(reply.headers.at("x-ignored-params"), "invented,service_tier,bad?name");
  EXPECT_FALSE(replica.post(kChat, chat_body()).headers.contains("x-ignored-params"));
}

TEST(Requests, ToolsWithChoiceNoneAreRendered) {
  TestReplica replica;
  const Reply reply = replica.post(
      kChat, chat_body(R"("tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":"none")"));
  ASSERT_EQ(reply.status, 200) << reply.body;
  EXPECT_EQ(replica.model().conversations().back().tools.size(), 1U);
}

TEST(Requests, AnUnknownModelListsTheKnownOnes) {
  ReplicaOptions options;
  options.served_names = {"first", "org/second"};
  TestReplica replica(std::move(options));
  const Reply reply = replica.post(kChat, chat_body());
  EXPECT_EQ(reply.status, 404);
  EXPECT_EQ(error_of(reply).at("code"), "model_not_found");
  EXPECT_THAT(reply.body, ::testing::HasSubstr("org/second"));
  EXPECT_EQ(replica.get("/v1/models/org%2Fsecond").status, 200);
  EXPECT_EQ(replica.get("/v1/models/fake").status, 404);
  EXPECT_EQ(parse_json(replica.get("/v1/models").body).at("data").as_array().size(), 2U);
}

TEST(Tokenize, HasTheShapeOfVllm) {
  TestReplica replica;
  const json::value answer = parse_json(
      replica.post("/tokenize", R"({"model":"fake","prompt":"ab","return_token_strs":true})").body);
  EXPECT_EQ(answer.at("count"), 2);
  EXPECT_EQ(answer.at("max_model_len"), 4096);
  EXPECT_EQ(answer.at("tokens"), json::value({97, 98}));
  EXPECT_EQ(answer.at("token_strs"), json::value({"a", "b"}));
  EXPECT_EQ(parse_json(replica.post("/tokenize", R"({"messages":[{"role":"user","content":"x"}]})").body)
                .at("count"),
            23);
  EXPECT_EQ(parse_json(replica.post("/detokenize", R"({"tokens":[97,98]})").body).at("prompt"), "ab");
  EXPECT_EQ(replica.post("/detokenize", R"({"tokens":[999]})").status, 400);
  EXPECT_EQ(replica.post("/tokenize", R"({"prompt":"a","messages":[]})").status, 400);
  EXPECT_EQ(replica.post("/tokenize", "{}").status, 400);
}

TEST(NestedKeys, HundredThousandOfThemTakeNoTime) {
  json::object message = {{"role", "user"}, {"content", "Hi"}};
  for (int i = 0; i < 100'000; ++i) message[fmt::format("key{}", i)] = i;
  std::vector<std::string> ignored;
  const auto start = std::chrono::steady_clock::now();
  note_unread_keys({{"messages", json::array{message, message}}}, kChatKeys, ignored);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(1));
  EXPECT_GE(ignored.size(), 100u);
  EXPECT_EQ(ignored[0], "messages[].key0");
}

TEST(NestedKeys, AreReportedUnlessTheyAreReadOrComeFromAnswers) {
  TestReplica replica;
  const auto ignored = [&](std::string_view path, const std::string& body) {
    const Reply reply = replica.post(path, body);
    EXPECT_EQ(reply.status, 200) << reply.body;
    return reply.headers.contains("x-ignored-params") ? reply.headers.at("x-ignored-params") : std::string();
  };
  EXPECT_EQ(ignored(kChat, R"({"model":"fake","messages":[{"role":"user","content":"a"},
      {"role":"assistant","content":"b","refusal":null,"annotations":[],"audio":null,"function_call":null},
      {"role":"user","content":[{"type":"text","text":"c"}]}]})"),
            "");
  EXPECT_EQ(
      ignored(kChat,
              R"({"model":"fake","messages":[{"role":"user","content":"a","mood":1},{"role":"user","mood":2,
      "content":[{"type":"text","text":"c","cache_control":{}}]}]})"),
      "messages[].mood,messages[].content[].cache_control");
  EXPECT_EQ(
      ignored("/v1/messages", R"({"model":"fake","max_tokens":9,"messages":[{"role":"user","content":"a"}],
      "tools":[{"name":"f","input_schema":{"type":"object","properties":{}},"eager":true}]})"),
      "tools[].eager");
  EXPECT_EQ(ignored("/v1/responses",
                    R"({"model":"fake","input":[{"role":"user","content":"a","id":"m1","mood":1}]})"),
            "input[].mood");
}

// A schema beside a type that does not read it would be a constraint that is dropped.
TEST(ResponseFormat, RefusesASchemaThatItsTypeDoesNotRead) {
  TestReplica replica;
  const auto param = [&](std::string_view format) {
    const Reply reply = replica.post(kChat, chat_body(fmt::format(R"("response_format":{})", format)));
    EXPECT_EQ(reply.status, 400) << format;
    return std::string(parse_json(reply.body).at("error").at("param").as_string());
  };
  EXPECT_EQ(param(R"({"type":"json_object","json_schema":{"schema":{}}})"), "response_format.json_schema");
  EXPECT_EQ(param(R"({"type":"text","json_schema":{"schema":{}}})"), "response_format.json_schema");
  EXPECT_EQ(param(R"({"type":"text","schema":{}})"), "response_format.schema");
  EXPECT_EQ(param(R"({"type":"json_schema","schema":{},"json_schema":{"schema":{}}})"),
            "response_format.schema");
  EXPECT_EQ(
      replica.post(kChat, chat_body(R"("response_format":{"type":"json_object","schema":{"type":"object"}})"))
          .status,
      200);
}

TEST(Routes, AboutThisServer) {
  TestReplica replica;
  EXPECT_EQ(replica.get("/v1/health/live").status, 200);
  EXPECT_EQ(replica.get("/v1/health/ready").status, 200);
  EXPECT_EQ(parse_json(replica.get("/v1/version").body).at("version"), NEUTRINO_VERSION);
  const json::value metadata = parse_json(replica.get("/v1/metadata").body);
  EXPECT_EQ(metadata.at("context_tokens"), 4096);
  EXPECT_EQ(metadata.at("sampling_defaults").at("temperature").to_number<double>(), 1.0);
  const json::value document = parse_json(replica.get("/openapi.json").body);
  for (const ServerRoute& route : route_table())
    EXPECT_TRUE(document.at("paths").as_object().contains(route.spec.path)) << route.spec.path;
  for (const ServerRoute& route : route_table())
    EXPECT_TRUE(!route.spec.answer_schema.empty() || route.spec.refuses ||
                route.spec.answer != "application/json")
        << route.spec.path << " says nothing of its answer: a line in answer_schemas.h";
  replica.model().set_status({.ready = false, .reason = "loading weights"});
  EXPECT_EQ(replica.get("/health").status, 503);
}

TEST(Metrics, EveryRequestIsCountedOnceByHowItEnded) {
  TestReplica replica;
  replica.post(kChat, chat_body());
  replica.post(kChat, chat_body(R"("stream":true)"));
  replica.post(kChat, chat_body(R"("n":0)"));
  replica.model().add_script({.pieces = {"a"}, .error = Error(ErrorCode::internal, "x")});
  replica.post(kChat, chat_body(R"("stream":true)"));
  replica.get("/nowhere");
  const auto count = [&](std::string_view status, std::string_view handler, std::string_view method) {
    const std::string text = replica.metrics().text();
    const std::string series = fmt::format(
        "http_requests_total{{handler=\"{}\",method=\"{}\",status=\"{}\"}} ", handler, method, status);
    const size_t at = text.find(series);
    return at == std::string::npos ? 0.0 : std::stod(text.substr(at + series.size()));
  };
  EXPECT_TRUE(eventually([&] { return count("2xx", kChat, "POST") == 2; })) << replica.metrics().text();
  EXPECT_EQ(count("4xx", kChat, "POST"), 1);
  EXPECT_EQ(count("truncated", kChat, "POST"), 1);
  EXPECT_TRUE(eventually([&] { return count("4xx", "none", "GET") == 1; }));
}

TEST(RequestLogLines, SayWhoAndHowMuchButNotWhat) {
  const std::filesystem::path file =
      std::filesystem::temp_directory_path() / fmt::format("neutrino-log-{}", getpid());
  ReplicaOptions options;
  options.http.keys.add("ci", "sesame");
  options.request_log = file;
  {
    TestReplica replica(std::move(options));
    replica.model().add_script({.pieces = {"secret answer"}});
    replica.post(kChat, R"({"model":"fake","messages":[{"role":"user","content":"secret question"}]})",
                 "Authorization: Bearer sesame\r\nX-Request-Id: r-1\r\nX-Neutrino-Usage-Id: u-1f-2\r\n");
  }
  const std::string text = read_file(file, 1 << 20);
  std::filesystem::remove(file);
  EXPECT_EQ(text.find("secret"), std::string::npos);
  EXPECT_EQ(text.find("sesame"), std::string::npos);
  const json::value line = parse_json(text.substr(0, text.find('\n')));
  EXPECT_EQ(line.at("id"), "r-1");
  EXPECT_EQ(line.at("usage_id"), "u-1f-2");
  EXPECT_EQ(line.at("key"), "ci");
  EXPECT_EQ(line.at("route"), json::string(kChat));
  EXPECT_EQ(line.at("status"), 200);
  EXPECT_EQ(line.at("finish"), "stop");
  EXPECT_EQ(line.at("completion_tokens"), 13);
  EXPECT_EQ(line.at("queue_ms"), 1);
}

}  // namespace
}  // namespace neutrino::server::testing
