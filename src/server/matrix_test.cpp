// "Honoured or 4xx": every field of every route with good, bad and absurd values, generated from the route table, so that a new
// field is covered the day it appears.
//
// honoured: each good value is accepted, is not reported as ignored, and changes something that can be seen (what reaches the model,
// or the answer). A value of a wrong type or out of range is a 400 that names the field. reported: accepted, and named in
// X-Ignored-Params. unsupported: a 400 that names it, unless the value asks for nothing. Nothing whatever is a 5xx.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "chat/answer_syntax.h"
#include "chat/reasoning.h"
#include "server/routes.h"
#include "server/testing/request_examples.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::Field, net::Support;
using net::testing::Reply;

// A field's good, out-of-range and wrongly typed values.
struct Values {
  std::vector<json::value> good, bad;
};

constexpr std::pair<int, const char*> kOfType[] = {
    {net::kString, R"("x")"}, {net::kBoolean, "true"}, {net::kInteger, "7"},
    {net::kNumber, "1.5"},    {net::kArray, "[7]"},    {net::kObject, R"({"a":7})"},
};

json::value parsed(std::string_view text) { return json::parse(json::string_view(text)); }

void add_numbers(const Field& field, Values& values) {
  const bool whole = !(field.types & net::kNumber);
  const bool low = std::isfinite(field.minimum), high = std::isfinite(field.maximum);
  for (const double wish : {1.0, 2.0, whole ? 7.0 : 0.25}) {
    double value = std::min(wish, field.maximum);
    if (value < field.minimum || (field.above_minimum && value <= field.minimum)) value = field.minimum + 1;
    values.good.push_back(whole ? json::value(static_cast<int64_t>(value)) : json::value(value));
  }
  if (low) values.bad.push_back(field.minimum - 1);
  if (low && field.above_minimum) values.bad.push_back(field.minimum);
  if (high) values.bad.push_back(field.maximum + 1);
  if (whole) values.bad.push_back(1.5);
}

Values values_of(const Field& field, std::string_view example) {
  Values values;
  if (field.types & net::kBoolean) values.good = {true, false};
  if (field.types & (net::kInteger | net::kNumber)) add_numbers(field, values);
  if (field.types & net::kString) values.good.emplace_back("x");
  if (field.types & net::kArray) values.good.emplace_back(json::array{});
  if (field.types & net::kObject) values.good.emplace_back(json::object{});
  if (!example.empty()) values.good = {parsed(example)};
  for (const auto& [type, text] : kOfType) {
    const bool number =
        (type & (net::kInteger | net::kNumber)) && (field.types & (net::kInteger | net::kNumber));
    if (!(field.types & type) && !number) values.bad.push_back(parsed(text));
  }
  return values;
}

// Bodies' values that nobody should send, as text: some are no JSON at all.
std::vector<std::string> absurd_values() {
  std::vector<std::string> all = {"null",
                                  "\"\"",
                                  "[]",
                                  "{}",
                                  "-1",
                                  "0",
                                  "1e308",
                                  "-1e308",
                                  "1e999",
                                  "9223372036854775807",
                                  "-9223372036854775808",
                                  "18446744073709551616",
                                  "NaN",
                                  "-0.0",
                                  "1e-320",
                                  R"("\u0000")",
                                  R"("\ud800")",
                                  R"([null])",
                                  R"([[]])",
                                  R"([{}])",
                                  R"({"":null})",
                                  R"({"type":null})",
                                  R"([{"type":"function","function":null}])",
                                  R"({"a":{"$ref":"#/a"}})",
                                  R"([{"role":"user","content":[]}])",
                                  R"(["",null,1,[[]],{}])"};
  all.push_back(std::string(200, '[') + std::string(200, ']'));
  all.push_back(std::string(300, '[') + std::string(300, ']'));
  all.push_back('"' + std::string(100'000, 'x') + '"');
  std::string many = "[0";
  for (int i = 0; i < 3000; ++i) many += ",0";
  all.push_back(many + "]");
  return all;
}

// What may differ between two answers to the same body.
void remove_chance(json::value& value) {
  if (auto* array = value.if_array())
    for (json::value& item : *array) remove_chance(item);
  auto* object = value.if_object();
  if (!object) return;
  for (const char* key : {"id", "created", "request_id"}) object->erase(key);
  for (auto& [key, item] : *object) remove_chance(item);
}

std::string text_of(const chat::GenerationRequest& request) {
  const chat::SamplingParameters& p = request.sampling;
  const auto optional = [](const auto& value) {
    return value ? fmt::format("{}", *value) : std::string("-");
  };
  std::string text =
      fmt::format("{} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {} {}", p.temperature, p.top_k,
                  p.top_p, p.min_p, p.presence_penalty, p.frequency_penalty, p.repetition_penalty,
                  optional(p.seed), p.logit_bias.size(), p.stop_token_ids.size(), p.stop.size(),
                  p.include_stop_in_output, p.ignore_eos, p.min_tokens, p.max_tokens, optional(p.logprobs),
                  optional(p.prompt_logprobs), p.skip_special_tokens, request.cache_salt, request.priority);
  text += fmt::format(" {} {} {} {} {}", optional(p.draft_tokens), request.timeout_ms > 0,
                      request.report_progress, request.prompt.size(), request.grammar != nullptr);
  text += fmt::format(" {} {}", request.answer && request.answer->calls, optional(request.thinking_budget));
  return text;
}

std::string text_of(const chat::Conversation& conversation) {
  std::string text = fmt::format("{} {} {} {}", conversation.messages.size(), conversation.tools.size(),
                                 conversation.add_generation_prompt, conversation.continue_final_message);
  for (const chat::Message& message : conversation.messages)
    text += message.role + message.content.value_or("-");
  return text + to_text(conversation.template_arguments);
}

// Everything that a client or the model can see of a request.
std::string outcome(TestReplica& replica, const Reply& reply) {
  std::string text = std::to_string(reply.status);
  if (reply.status == 200 && reply.headers.at("content-type").starts_with("application/json")) {
    json::value body = parse_json(reply.body);
    remove_chance(body);
    text += to_text(body);
  } else if (reply.status == 200) {
    text += reply.headers.at("content-type");
    for (const json::object& event : parse_events(reply.body).items) {
      json::value value = event;
      remove_chance(value);
      if (value.as_object().contains("usage")) text += "usage";
    }
  }
  const auto asked = replica.model().take_asked();
  for (const auto& request : asked.requests) text += text_of(request);
  for (const auto& conversation : asked.conversations) text += text_of(conversation);
  for (const auto& tokenized : asked.tokenized) text += tokenized;
  return text;
}

bool names(const std::string& list, std::string_view name) {
  return ("," + list + ",").find(fmt::format(",{},", name)) != std::string::npos;
}

// One route, and the replicas that can serve it: the first whose answer to the plain body is a 200 is asked.
class RouteMatrix {
 public:
  RouteMatrix(const net::RouteSpec& spec, TestReplica& replica) : spec_(spec), replica_(replica) {
    for (const Field& field : spec.fields)
      if (field.required) plain_[field.name] = parsed(example(field).value);
  }

  bool fits() { return ask(plain_).status != 400 || plain_.empty(); }

  void check() {
    for (const Field& field : spec_.fields) {
      SCOPED_TRACE(fmt::format("{} {}", spec_.path, field.name));
      const json::object body = body_with(field);
      if (field.support == Support::honoured && std::ranges::count(kAnsweredInFull, spec_.path) > 0)
        check_honoured(field, body);
      if (field.support == Support::reported) check_reported(field, body);
      if (field.support == Support::unsupported) check_unsupported(field, body);
      check_absurd(field, body);
    }
    check_bodies();
  }

  int64_t requests() const { return requests_; }

 private:
  RequestExample example(const Field& field) const {
    for (const RequestExample& entry : kRequestExamples)
      if (entry.name == field.name && (entry.path.empty() || entry.path == spec_.path)) return entry;
    return {};
  }

  // The plain body and what the field needs beside it.
  json::object body_with(const Field& field) const {
    json::object body = plain_;
    const RequestExample entry = example(field);
    if (entry.with.empty()) return body;
    const json::value beside = parsed(entry.with);
    for (const auto& [key, value] : beside.as_object()) body[key] = value;
    return body;
  }

  Reply ask_text(const std::string& text) {
    ++requests_;
    Reply reply = replica_.post(spec_.path, text);
    EXPECT_LT(reply.status, 500) << text.substr(0, 300) << "\n" << reply.body;
    EXPECT_GE(reply.status, 200) << text.substr(0, 300);
    if (reply.status >= 400) check_error_body(reply);
    return reply;
  }
  Reply ask(const json::object& body) { return ask_text(to_text(body)); }

  void check_error_body(const Reply& reply) const {
    const json::value body = parse_json(reply.body);
    ASSERT_TRUE(body.is_object() && body.as_object().contains("error")) << reply.body;
    const bool anthropic = spec_.errors == net::ErrorShape::anthropic;
    for (const char* key : {"message", "type", "param", "code"})
      if (!anthropic || key == std::string_view("message") || key == std::string_view("type")) {
        EXPECT_TRUE(body.at("error").as_object().contains(key)) << reply.body;
      }
  }

  void expect_refused(const Field& field, const Reply& reply, const json::value& value) {
    ASSERT_EQ(reply.status, 400) << field.name << " = " << to_text(value) << ": "
                                 << reply.body.substr(0, 300);
    const json::object error = parse_json(reply.body).at("error").as_object();
    const bool has_param = error.contains("param") && error.at("param").is_string();
    const json::string& where = error.at(has_param ? "param" : "message").as_string();
    EXPECT_NE(std::string_view(where).find(field.name), std::string_view::npos)
        << field.name << " = " << to_text(value) << ": " << reply.body;
  }

  void check_honoured(const Field& field, json::object body) {
    const Values values = values_of(field, example(field).value);
    json::object without = body;
    without.erase(field.name);
    replica_.model().take_asked();
    const Reply plain_reply = ask(without);
    const std::string before = outcome(replica_, plain_reply);
    bool seen =
        std::ranges::count(kWithoutEffect, field.name) + std::ranges::count(kSeenElsewhere, field.name) > 0;
    for (const json::value& value : values.good) {
      body[field.name] = value;
      const Reply reply = ask(body);
      EXPECT_EQ(reply.status, 200) << field.name << " = " << to_text(value)
                                   << " was refused; its example belongs into request_examples.h: "
                                   << reply.body;
      if (reply.headers.contains("x-ignored-params")) {
        EXPECT_FALSE(names(reply.headers.at("x-ignored-params"), field.name)) << to_text(value);
      }
      seen = outcome(replica_, reply) != before || seen;
    }
    EXPECT_TRUE(seen) << field.name
                      << " is accepted, but nothing that the model or the client sees depends on it";
    for (const json::value& value : values.bad) {
      body[field.name] = value;
      expect_refused(field, ask(body), value);
    }
  }

  void check_reported(const Field& field, json::object body) {
    for (const auto& [type, text] : kOfType) {
      body[field.name] = parsed(text);
      const Reply reply = ask(body);
      ASSERT_EQ(reply.status, 200) << reply.body;
      ASSERT_TRUE(reply.headers.contains("x-ignored-params"));
      EXPECT_TRUE(names(reply.headers.at("x-ignored-params"), field.name)) << field.name;
    }
  }

  void check_unsupported(const Field& field, json::object body) {
    const json::array neutral = field.neutral.empty() ? json::array() : parsed(field.neutral).as_array();
    for (const auto& [type, text] : kOfType) {
      body[field.name] = parsed(text);
      if (std::ranges::find(neutral, body[field.name]) != neutral.end()) continue;
      expect_refused(field, ask(body), body[field.name]);
    }
    for (const json::value& value : neutral) {
      body[field.name] = value;
      EXPECT_EQ(ask(body).status, 200) << field.name << " = " << to_text(value);
    }
  }

  void check_absurd(const Field& field, json::object body) {
    static const std::vector<std::string> kAbsurd = absurd_values();
    body.erase(field.name);
    std::string head = to_text(body);
    head.back() = body.empty() ? ' ' : ',';
    for (const std::string& value : kAbsurd) ask_text(fmt::format("{}\"{}\":{}}}", head, field.name, value));
  }

  void check_bodies() {
    for (const std::string_view text :
         {"", "null", "[]", "7", "\"x\"", "{", "{\"a\":}", "\xff\xfe", "{}}", "{\"\":1}"}) {
      const Reply reply = ask_text(std::string(text));
      if (text != "{\"\":1}") {
        EXPECT_EQ(reply.status, 400) << text;
      }
    }
    json::object body = plain_;
    body["a_field_nobody_knows"] = 1;
    const Reply reply = ask(body);
    if (reply.status == 200) {
      EXPECT_TRUE(names(reply.headers.at("x-ignored-params"), "a_field_nobody_knows"));
    }
  }

  const net::RouteSpec& spec_;
  TestReplica& replica_;
  json::object plain_;
  int64_t requests_ = 0;
};

// A model that thinks, and whose template reads how much.
chat::ChatModelInfo text_info() {
  auto info = chat::testing::FakeChatModel::default_info();
  info.chat_template = "{{ enable_thinking }} {{ reasoning_effort }}";
  info.fill_in = chat::FillInTokens{1, 2, 3};
  info.answer.reasoning = chat::find_reasoning_tags("think");
  return info;
}

chat::ChatModelInfo embedding_info() {
  auto info = chat::testing::FakeChatModel::default_info();
  info.embedding_size = 3;
  return info;
}

chat::ChatModelInfo reranker_info() {
  auto info = chat::testing::FakeChatModel::default_info();
  info.reranker = true;
  return info;
}

TEST(Matrix, EveryFieldIsHonouredReportedOrRefused) {
  TestReplica text({}, text_info()), embedding({}, embedding_info()), reranker({}, reranker_info());
  int64_t routes = 0, requests = 0;
  for (const ServerRoute& route : route_table()) {
    if (route.spec.fields.empty() || std::ranges::count(kNeedFiles, route.spec.path) > 0) continue;
    bool done = false;
    for (TestReplica* replica : {&text, &embedding, &reranker}) {
      RouteMatrix matrix(route.spec, *replica);
      if (done || !matrix.fits()) continue;
      matrix.check();
      requests += matrix.requests();
      done = true;
    }
    EXPECT_TRUE(done) << route.spec.path
                      << " answers none of the replicas: give its required fields an example";
    ++routes;
  }
  EXPECT_GE(routes, 5);
  EXPECT_GT(requests, 3000);
}

}  // namespace
}  // namespace neutrino::server::testing
