// "Honoured or 4xx": every field of every route with good, bad and absurd values, generated from the route table, so that a new
// field is covered the day it appears.
//
// honoured: each good value is accepted, is not reported as ignored, and one of them changes something that can be seen (the answer,
// what reaches the model, which adapters there are); a required field's second example does. A value of a wrong type or out of range is a 400 that names the field. reported: accepted, and named in
// X-Ignored-Params. unsupported: a 400 that names it, unless the value asks for nothing. Nothing whatever is a 5xx.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <set>

#include "chat/answer_syntax.h"
#include "chat/reasoning.h"
#include "models/testing/golden_adapter.h"
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

// A key that no field's object has.
constexpr const char* kUnknownKey = "a_key_nobody_knows";

// `root` with that key in one of the objects in `at`, which is a part of it: one variant for each object.
void add_variants(const json::value& root, json::value& at, std::vector<json::value>& variants) {
  if (auto* array = at.if_array())
    for (json::value& item : *array) add_variants(root, item, variants);
  auto* object = at.if_object();
  if (!object) return;
  (*object)[kUnknownKey] = 1;
  variants.push_back(root);
  object->erase(kUnknownKey);
  for (auto& [key, value] : *object) add_variants(root, value, variants);
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

// A response repeats its request: that a field is in there does not show that anything else took notice. The client's own notes
// are repeated and nothing else.
void remove_echo(json::object& response) {
  for (const char* key : {"instructions", "max_output_tokens", "parallel_tool_calls", "temperature", "top_p",
                          "tool_choice", "tools", "text", "reasoning"})
    response.erase(key);
}

// What may differ between two answers to the same body.
void remove_chance(json::value& value) {
  if (auto* array = value.if_array())
    for (json::value& item : *array) remove_chance(item);
  auto* object = value.if_object();
  if (!object) return;
  for (const char* key : {"id", "created", "created_at", "request_id"}) object->erase(key);
  if (const auto* kind = object->if_contains("object"); kind && *kind == "response") remove_echo(*object);
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
  text += fmt::format(" {} {} {}", request.answer && request.answer->calls, optional(request.thinking_budget),
                      request.adapter ? request.adapter->name : "-");
  return text;
}

std::string text_of(const chat::Conversation& conversation) {
  std::string text = fmt::format("{} {} {} {}", conversation.messages.size(), conversation.tools.size(),
                                 conversation.add_generation_prompt, conversation.continue_final_message);
  for (const chat::Message& message : conversation.messages)
    text += message.role + message.content.value_or("-");
  return text + to_text(conversation.template_arguments) + to_text(conversation.tools);
}

std::string body_text(const Reply& reply) {
  if (!reply.headers.contains("content-type")) return {};
  const std::string& type = reply.headers.at("content-type");
  if (type.starts_with("application/json")) {
    json::value body = parse_json(reply.body);
    remove_chance(body);
    return to_text(body);
  }
  std::string text = type;
  if (!type.starts_with("text/event-stream")) return text + reply.body;
  for (const json::object& event : parse_events(reply.body).items)
    if (event.contains("usage")) text += "usage";
  return text;
}

// Everything that a client or the model can see of a request.
std::string outcome(TestReplica& replica, const Reply& reply) {
  std::string text = fmt::format("{} {}", reply.status, body_text(reply));
  const auto asked = replica.model().take_asked();
  for (const auto& request : asked.requests) text += text_of(request);
  for (const auto& conversation : asked.conversations) text += text_of(conversation);
  for (const auto* list : {&asked.tokenized, &asked.grammars, &asked.admin})
    for (const std::string& item : *list) text += item;
  for (const chat::AdapterPtr& adapter : replica.model().adapters()) text += adapter->name + adapter->file;
  return text;
}

bool names(const std::string& list, std::string_view name) {
  return ("," + list + ",").find(fmt::format(",{},", name)) != std::string::npos;
}

// Files that some requests need: a home with a kept prefix, and two adapters.
class Files {
 public:
  Files() {
    const char* home = std::getenv("NEUTRINO_HOME");
    if (home) home_before_ = home;
    setenv("NEUTRINO_HOME", folder_.path().c_str(), 1);
    const json::value golden =
        parse_json(read_file(NEUTRINO_SOURCE_DIR "/tests/golden/serving_adapters.json", 16 << 20));
    for (const auto& [adapter, name] : {std::pair{"a", "first"}, {"b", "second"}})
      models::testing::write_adapter(golden.at("llama").at(adapter).as_object(), folder_.path() / name);
    std::filesystem::create_directories(folder_.path() / "cache/prefixes");
    std::ofstream(folder_.path() / "cache/prefixes/a-prefix.prefix") << "72 ";
  }
  ~Files() {
    if (home_before_)
      setenv("NEUTRINO_HOME", home_before_->c_str(), 1);
    else
      unsetenv("NEUTRINO_HOME");
  }
  // As every request finds them.
  void load_adapters(chat::ChatModel& model) const {
    for (const chat::AdapterPtr& adapter : model.adapters()) model.unload_adapter(adapter->name);
    model.load_adapter("tuned", folder_.path() / "first", chat::IfLoaded::refuse);
    model.load_adapter("spare", folder_.path() / "second", chat::IfLoaded::refuse);
  }
  std::string with_folder(std::string_view text) const {
    return replaced(text, "$FOLDER", folder_.path().string());
  }

  static std::string replaced(std::string_view text, std::string_view what, const std::string& by) {
    std::string result(text);
    if (const size_t at = result.find(what); at != std::string::npos) result.replace(at, what.size(), by);
    return result;
  }

 private:
  models::testing::TemporaryFolder folder_;
  std::optional<std::string> home_before_;
};

// One route, and the replicas that can serve it: the first whose answer to the plain body is a 200 is asked.
class RouteMatrix {
 public:
  RouteMatrix(const net::RouteSpec& spec, TestReplica& replica, const Files& files)
      : spec_(spec), replica_(replica), files_(files), path_(Files::replaced(spec.path, "{id}", "a-prefix")) {
    for (const Field& field : spec.fields)
      if (field.required) plain_[field.name] = example_value(example(field).value);
  }

  bool fits() { return ask(plain_).status != 400 || plain_.empty(); }

  void check() {
    for (const Field& field : spec_.fields) {
      SCOPED_TRACE(fmt::format("{} {}", spec_.path, field.name));
      const json::object body = body_with(field);
      if (field.support == Support::honoured) check_honoured(field, body);
      if (field.support == Support::honoured) check_nested(field, body);
      if (field.support == Support::reported) check_reported(field, body);
      if (field.support == Support::unsupported) check_unsupported(field, body);
      check_absurd(field, body);
    }
    check_bodies();
  }

  // Does a good value of the field change anything?
  bool shows(const Field& field) {
    const RequestExample entry = example(field);
    if (field.required)
      return !entry.other.empty() && outcome_of(field, entry.value) != outcome_of(field, entry.other);
    json::object without = body_with(field);
    without.erase(field.name);
    const std::string before = outcome_of(without);
    json::object body = body_with(field);
    return std::ranges::any_of(values_of(field, example_text(entry.value)).good,
                               [&](const json::value& value) {
                                 body[field.name] = value;
                                 return outcome_of(body) != before;
                               });
  }

  int64_t requests() const { return requests_; }
  const std::set<size_t>& exceptions() const {
    return exceptions_;
  }  // entries of kWithoutEffect that were needed

 private:
  RequestExample example(const Field& field) const {
    for (const RequestExample& entry : kRequestExamples)
      if (entry.name == field.name && spec_.path.starts_with(entry.path)) return entry;
    return {};
  }
  std::string example_text(std::string_view text) const { return files_.with_folder(text); }
  json::value example_value(std::string_view text) const {
    return text.empty() ? json::value(nullptr) : parsed(example_text(text));
  }

  // Is it known that the field has none?
  bool needs_no_effect(const Field& field) {
    for (size_t i = 0; i < kWithoutEffect.size(); ++i) {
      if (kWithoutEffect[i].name != field.name || !spec_.path.starts_with(kWithoutEffect[i].path)) continue;
      exceptions_.insert(i);
      return true;
    }
    return false;
  }

  std::string outcome_of(const json::object& body) {
    replica_.model().take_asked();
    return outcome(replica_, ask(body));
  }
  std::string outcome_of(const Field& field, std::string_view value) {
    json::object body = body_with(field);
    body[field.name] = example_value(value);
    return outcome_of(body);
  }

  // The plain body and what the field needs beside it.
  json::object body_with(const Field& field) const {
    json::object body = plain_;
    const RequestExample entry = example(field);
    if (entry.with.empty()) return body;
    const json::value beside = example_value(entry.with);
    for (const auto& [key, value] : beside.as_object()) body[key] = value;
    return body;
  }

  Reply ask_text(const std::string& text) {
    ++requests_;
    if (spec_.path.find("lora_adapter") != std::string_view::npos) files_.load_adapters(replica_.model());
    Reply reply = replica_.post(path_, text);
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
    const RequestExample entry = example(field);
    const Values values = values_of(field, example_text(entry.value));
    for (const json::value& value : values.good) {
      body[field.name] = value;
      check_accepted(field, entry, value, ask(body));
    }
    EXPECT_TRUE(entry.status != 200 || entry.reported || shows(field) || needs_no_effect(field))
        << field.name << " is accepted, but nothing that the model or the client sees depends on "
        << (field.required ? "its two values" : "it") << " in request_examples.h";
    for (const json::value& value : values.bad) {
      body[field.name] = value;
      expect_refused(field, ask(body), value);
    }
  }

  void check_accepted(const Field& field, const RequestExample& entry, const json::value& value,
                      const Reply& reply) const {
    ASSERT_EQ(reply.status, entry.status) << field.name << " = " << to_text(value)
                                          << ": its example belongs into request_examples.h: " << reply.body;
    if (entry.status != 200) {
      EXPECT_EQ(parse_json(reply.body).at("error").at("param"), json::string_view(field.name)) << reply.body;
      return;
    }
    const bool reported =
        reply.headers.contains("x-ignored-params") && names(reply.headers.at("x-ignored-params"), field.name);
    EXPECT_EQ(reported, entry.reported) << field.name << " = " << to_text(value);
  }

  // Below the first level, too, what nobody reads is refused or reported, unless it shows.
  void check_nested(const Field& field, json::object body) {
    std::vector<json::value> variants;
    for (json::value value : values_of(field, example_text(example(field).value)).good) {
      add_variants(value, value, variants);
      body[field.name] = value;
    }
    const std::string plain = variants.empty() ? std::string() : outcome_of(body);
    for (const json::value& variant : variants) {
      body[field.name] = variant;
      replica_.model().take_asked();
      const Reply reply = ask(body);
      const auto reported = reply.headers.find("x-ignored-params");
      const bool named =
          reply.headers.end() != reported && reported->second.find(kUnknownKey) != std::string::npos;
      EXPECT_TRUE(reply.status >= 400 || named || outcome(replica_, reply) != plain || needs_no_effect(field))
          << field.name << " = " << to_text(variant) << ": the unknown key is dropped silently";
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
  const Files& files_;
  const std::string path_;  // with a name for {id}
  json::object plain_;      // the required fields
  int64_t requests_ = 0;
  std::set<size_t> exceptions_;
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

// All kinds of models, one of which can serve whatever route.
struct Replicas {
  TestReplica text{{}, text_info()}, reranker{{}, reranker_info()}, embedding{{}, embedding_info()};
  Files files;

  Replicas() {
    text.model().set_usual_script({.pieces = {"<think>", "Hm.", "</think>", "Hello", ",", " world", "."}});
    for (TestReplica* replica : {&text, &reranker, &embedding}) files.load_adapters(replica->model());
  }
};

TEST(Matrix, EveryFieldIsHonouredReportedOrRefused) {
  Replicas replicas;
  int64_t routes = 0, requests = 0;
  std::set<size_t> exceptions;
  for (const ServerRoute& route : route_table()) {
    if (route.spec.fields.empty()) continue;
    bool done = false;
    for (TestReplica* replica : {&replicas.text, &replicas.reranker, &replicas.embedding}) {
      RouteMatrix matrix(route.spec, *replica, replicas.files);
      if (done || !matrix.fits()) continue;
      matrix.check();
      requests += matrix.requests();
      exceptions.insert(matrix.exceptions().begin(), matrix.exceptions().end());
      done = true;
    }
    EXPECT_TRUE(done) << route.spec.path
                      << " answers none of the replicas: give its required fields an example";
    ++routes;
  }
  EXPECT_GE(routes, 15);
  EXPECT_GT(requests, 10'000);
  for (size_t i = 0; i < kWithoutEffect.size(); ++i)
    EXPECT_TRUE(exceptions.contains(i)) << kWithoutEffect[i].name << " shows by now: its exception goes";
}

// The negative control: a field that nobody reads is found.
TEST(Matrix, AFieldWithoutEffectIsFound) {
  Replicas replicas;
  constexpr Field kFields[] = {{.name = "prompt", .types = net::kString},
                               {.name = "model", .types = net::kString, .required = true},
                               {.name = "user", .types = net::kString}};
  const net::RouteSpec spec{.method = net::Method::post, .path = "/tokenize", .fields = kFields};
  RouteMatrix matrix(spec, replicas.text, replicas.files);
  EXPECT_TRUE(matrix.shows(kFields[0]));
  EXPECT_FALSE(matrix.shows(kFields[1]));  // required, and any served name does
  EXPECT_FALSE(matrix.shows(kFields[2]));
}

// What a route takes nothing of is not dropped silently either.
TEST(Matrix, ABodyWithoutFieldsIsEmptyOrReported) {
  Replicas replicas;
  int routes = 0;
  for (const ServerRoute& route : route_table()) {
    const net::RouteSpec& spec = route.spec;
    if (!spec.fields.empty() || spec.refuses || spec.body_bytes == 0) continue;
    SCOPED_TRACE(spec.path);
    const std::string path = Files::replaced(spec.path, "{id}", "nobody");
    for (const std::string_view text : {"[]", "7", "{", "\xff\xfe", "{}}"})
      EXPECT_EQ(replicas.text.post(path, text).status, 400) << text;
    for (const std::string_view text : {"", "{}", R"({"level":null})", R"({"level":1})"}) {
      const Reply reply = replicas.text.post(path, text);
      EXPECT_EQ(reply.status, spec.path.find("{id}") == std::string_view::npos ? 200 : 404) << reply.body;
      const bool named = reply.headers.contains("x-ignored-params");
      EXPECT_EQ(named, text.find("level") != std::string_view::npos) << text;
    }
    ++routes;
  }
  EXPECT_GE(routes, 3);
}

TEST(Matrix, SleepTakesALevelAndWakingNothing) {
  TestReplica replica;
  const auto asleep = [&] {
    return parse_json(replica.get("/is_sleeping").body).at("is_sleeping").as_bool();
  };
  for (const std::string_view query : {"?level=1", "?level=2", ""}) {
    EXPECT_EQ(replica.post(fmt::format("/sleep{}", query), "").status, 200) << query;
    EXPECT_TRUE(asleep());
    EXPECT_EQ(replica.post("/v1/completions", completion_body()).status, 503);
    EXPECT_EQ(replica.post("/wake_up", "").status, 200);
    EXPECT_FALSE(asleep());
  }
  for (const std::string_view query :
       {"level=3", "level=", "level", "level=1&mode=keep", "x=1", "level=1%00"}) {
    const Reply reply = replica.post(fmt::format("/sleep?{}", query), "");
    EXPECT_EQ(reply.status, 400) << query;
    EXPECT_FALSE(asleep()) << query;
  }
  const Reply part = replica.post("/wake_up?tags=weights", "");
  EXPECT_EQ(part.status, 400);
  EXPECT_EQ(parse_json(part.body).at("error").at("param"), "tags");
}

}  // namespace
}  // namespace neutrino::server::testing
