// The many names of one thing: what each field of a body becomes, and what is refused.
#include "server/constraint_fields.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using ::testing::HasSubstr;
using text::GrammarKind;

std::optional<text::GrammarSpec> read(std::string_view body) {
  return read_constraint(parse_json(body).as_object());
}

struct Case {
  const char* body;
  GrammarKind kind;
  const char *text, *param;
};

TEST(ConstraintFields, EachNameIsRead) {
  const Case cases[] = {
      {R"({"response_format":{"type":"json_object"}})", GrammarKind::json_object, "", "response_format"},
      {R"({"response_format":{"type":"json_object","schema":{"b":1,"a":2}}})", GrammarKind::json_schema,
       R"({"b":1,"a":2})", "response_format.schema"},
      {R"({"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{},"strict":false}}})",
       GrammarKind::json_schema, "{}", "response_format.json_schema.schema"},
      {R"({"structured_outputs":{"json":"{\"type\":\"null\"}"}})", GrammarKind::json_schema,
       R"({"type":"null"})", "structured_outputs.json"},
      {R"({"structured_outputs":{"regex":"a+","json":null,"disable_fallback":true}})", GrammarKind::regex,
       "a+", "structured_outputs.regex"},
      {R"({"structured_outputs":{"choice":["a","b"]}})", GrammarKind::choice, R"(["a","b"])",
       "structured_outputs.choice"},
      {R"({"structured_outputs":{"grammar":"start: \"a\""}})", GrammarKind::lark, "start: \"a\"",
       "structured_outputs.grammar"},
      {R"({"structured_outputs":{"json_object":true}})", GrammarKind::json_object, "",
       "structured_outputs.json_object"},
      {R"({"structured_outputs":{"structural_tag":{"type":"structural_tag"}}})", GrammarKind::structural_tag,
       R"({"type":"structural_tag"})", "structured_outputs.structural_tag"},
      {R"({"guided_json":{}})", GrammarKind::json_schema, "{}", "guided_json"},
      {R"({"guided_regex":"a"})", GrammarKind::regex, "a", "guided_regex"},
      {R"({"guided_choice":["a"]})", GrammarKind::choice, R"(["a"])", "guided_choice"},
      {R"({"guided_grammar":"root ::= \"a\""})", GrammarKind::gbnf, "root ::= \"a\"", "guided_grammar"},
      {R"({"nvext":{"guided_json":{}}})", GrammarKind::json_schema, "{}", "nvext.guided_json"},
      {R"({"nvext":{"guided_regex":"a"}})", GrammarKind::regex, "a", "nvext.guided_regex"},
      {R"({"json_schema":{}})", GrammarKind::json_schema, "{}", "json_schema"},
      {R"({"regex":"a"})", GrammarKind::regex, "a", "regex"},
      {R"({"ebnf":"root ::= \"a\""})", GrammarKind::gbnf, "root ::= \"a\"", "ebnf"},
      {R"({"grammar":"root ::= \"a\""})", GrammarKind::gbnf, "root ::= \"a\"", "grammar"},
      {R"({"guided_regex":"a","nvext":{"guided_regex":"a"}})", GrammarKind::regex, "a", "guided_regex"},
  };
  for (const Case& c : cases) {
    const auto spec = read(c.body);
    ASSERT_TRUE(spec) << c.body;
    EXPECT_EQ(spec->kind, c.kind) << c.body;
    EXPECT_EQ(spec->text, c.text) << c.body;
    EXPECT_EQ(spec->param, c.param) << c.body;
  }
  for (const char* free :
       {R"({})", R"({"response_format":{"type":"text"}})", R"({"guided_json":null})", R"({"nvext":{}})"})
    EXPECT_FALSE(read(free)) << free;
}

TEST(ConstraintFields, WhatCannotBeHonouredIsNamed) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"response_format":{}})", "missing_required_parameter", "response_format.type"},
      {R"({"response_format":{"type":"xml"}})", "invalid_value", "response_format.type"},
      {R"({"response_format":{"type":"json_schema"}})", "missing_required_parameter",
       "response_format.json_schema"},
      {R"({"response_format":{"type":"json_schema","json_schema":{"name":"x"}}})",
       "missing_required_parameter", "response_format.json_schema.schema"},
      {R"({"response_format":{"type":"json_schema","json_schema":{"schema":7}}})", "invalid_type",
       "response_format.json_schema.schema"},
      {R"({"response_format":{"type":"json_schema","json_schema":{"schema":{},"strict":1}}})", "invalid_type",
       "response_format.json_schema.strict"},
      {R"({"structured_outputs":{}})", "invalid_value", "structured_outputs"},
      {R"({"structured_outputs":{"regex":"a","choice":["a"]}})", "invalid_value", "structured_outputs"},
      {R"({"structured_outputs":{"jsn":{}}})", "unsupported_parameter", "structured_outputs.jsn"},
      {R"({"structured_outputs":{"regex":"a","whitespace_pattern":" "}})", "unsupported_parameter",
       "structured_outputs.whitespace_pattern"},
      {R"({"structured_outputs":{"choice":["a",1]}})", "invalid_type", "structured_outputs.choice[1]"},
      {R"({"guided_choice":[]})", "invalid_value", "guided_choice"},
      {R"({"guided_regex":""})", "invalid_value", "guided_regex"},
      {R"({"nvext":{"annotations":[]}})", "unsupported_parameter", "nvext.annotations"},
      {R"({"guided_regex":"a","regex":"b"})", "invalid_value", "regex"},
      {R"({"guided_json":{},"response_format":{"type":"json_object"}})", "invalid_value", "guided_json"},
  };
  for (const auto& [body, reason, param] : cases) try {
      read(body);
      ADD_FAILURE() << "accepted: " << body;
    } catch (const Error& error) {
      EXPECT_EQ(error.reason(), reason) << body;
      EXPECT_EQ(error.param(), param) << body;
    }
}

TEST(ConstraintFields, AreCompiledBeforeTheAnswerBegins) {
  TestReplica replica;
  using Body = std::string (*)(std::string_view);
  for (const auto& [path, body] : {std::pair<const char*, Body>{"/v1/chat/completions", chat_body},
                                   std::pair<const char*, Body>{"/v1/completions", completion_body}}) {
    const auto good = replica.post(
        path,
        body(
            R"("response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}})"));
    EXPECT_EQ(good.status, 200) << good.body;
    ASSERT_FALSE(replica.model().requests().empty());
    EXPECT_NE(replica.model().requests().back().grammar, nullptr);
    const auto bad =
        replica.post(path, body(R"("stream":true,"guided_json":{"properties":{"a":{"uniqueItems":true}}})"));
    EXPECT_EQ(bad.status, 400);
    const json::object error = parse_json(bad.body).at("error").as_object();
    EXPECT_EQ(error.at("code"), "unsupported_schema_keyword");
    EXPECT_EQ(error.at("param"), "guided_json.properties.a.uniqueItems");
    EXPECT_EQ(parse_json(replica.post(path, body(R"("regex":"(")")).body).at("error").at("code"),
              "invalid_grammar");
    EXPECT_EQ(replica.post(path, body("")).status, 200);
    EXPECT_EQ(replica.model().requests().back().grammar, nullptr);
  }
}

}  // namespace
}  // namespace neutrino::server::testing
