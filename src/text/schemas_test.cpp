// JSON schemas: what each keyword allows and refuses, what is rewritten, and what is refused by name. Keys of instances are in
// the schema's order.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/testing/byte_vocabulary.h"

namespace neutrino::text {
namespace {

using testing::accepts;
using testing::compile;
using testing::error_of;

struct Case {
  const char* schema;
  std::vector<const char*> valid, invalid;
};

void check_cases(std::span<const Case> cases) {
  for (const Case& c : cases) {
    const Grammar grammar = compile(GrammarKind::json_schema, c.schema);
    for (const char* text : c.valid) EXPECT_TRUE(accepts(grammar, text)) << c.schema << " refuses " << text;
    for (const char* text : c.invalid)
      EXPECT_FALSE(accepts(grammar, text)) << c.schema << " accepts " << text;
  }
}

TEST(Schemas, OneOfWhoseOptionsExcludeEachOther) {
  const Case cases[] = {
      {R"({"oneOf":[{"type":"string"},{"type":"integer"}]})", {R"("a")", "1"}, {"null", "1.5"}},
      {R"({"oneOf":[{"enum":[1,2]},{"enum":[3]}]})", {"1", "3"}, {"4"}},
      {R"({"oneOf":[{"type":"integer","maximum":3},{"type":"integer","minimum":4}]})",
       {"3", "4"},
       {R"("a")"}},
      {R"({"oneOf":[{"type":"string","pattern":"^a"},{"type":"string","pattern":"^b"}]})",
       {R"("ab")", R"("b")"},
       {R"("c")"}},
      {R"({"oneOf":[{"type":"string","format":"uri"},{"type":"string","pattern":"^\\./.+$"}]})",
       {R"("./a")", R"("http://a")"},
       {R"("a")"}},
      {R"({"oneOf":[{"$ref":"#/definitions/a"},{"type":"null"}],"definitions":{"a":{"type":"string","maxLength":1}}})",
       {R"("a")", "null"},
       {R"("ab")", "1"}},
      {R"({"type":"object","properties":{"k":{},"v":{}},"oneOf":[{"properties":{"k":{"const":"x"}},"required":["k"]},
          {"properties":{"k":{"const":"y"},"v":{"type":"integer"}},"required":["k","v"]}],"additionalProperties":false})",
       {R"({"k":"x"})", R"({"k":"y","v":1})", R"({"k":"x","v":null})"},
       {R"({"k":"y"})", R"({"k":"z"})", R"({"k":"y","v":null})"}},
  };
  check_cases(cases);
}

// Where options overlap, each goes with the opposite of the others.
TEST(Schemas, OneOfWhoseOptionsOverlap) {
  const Case cases[] = {
      {R"({"properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"type":"object","additionalProperties":false,
          "oneOf":[{"required":["a"]},{"required":["b"]}]})",
       {R"({"a":1})", R"({"b":1})"},
       {R"({"a":1,"b":1})", "{}"}},
      {R"({"oneOf":[{"type":"integer"},{"type":"number","minimum":5}]})", {"4", "5.5"}, {"5", "4.5"}},
      {R"({"oneOf":[{"enum":["a","b"]},{"enum":["b","c"]}]})", {R"("a")", R"("c")"}, {R"("b")", R"("d")"}},
      {R"({"oneOf":[true,false]})", {"1"}, {}},
  };
  check_cases(std::span(cases).subspan(0, 1));
  check_cases(std::span(cases).subspan(2));
}

TEST(Schemas, SimpleNot) {
  const Case cases[] = {
      {R"({"not":{"type":["object","array"]}})", {"1", R"("a")", "null"}, {"{}", "[]"}},
      {R"({"type":"object","not":{"required":["a"]}})", {"{}", R"({"b":1})"}, {R"({"a":1})"}},
      {R"({"type":"object","not":{"anyOf":[{"required":["a"]},{"required":["b","c"]}]}})",
       {R"({"b":1})", R"({"c":1})"},
       {R"({"a":1})", R"({"b":1,"c":1})"}},
      {R"({"type":"integer","not":{"minimum":5}})", {"4", "-7"}, {"5", "6"}},
      {R"({"type":"string","not":{"const":"ab"}})",
       {R"("")", R"("a")", R"("abc")", R"("b")", R"("aB")"},
       {R"("ab")", "1"}},
      {R"({"type":"string","not":{"enum":["","x"]}})", {R"("y")", R"("xx")"}, {R"("")", R"("x")"}},
      {R"({"type":"string","not":{"minLength":3}})", {R"("ab")"}, {R"("abc")"}},
      {R"({"type":"array","not":{"maxItems":1}})", {"[1,2]"}, {"[]", "[1]"}},
      {R"({"not":{"not":{"type":"integer"}}})", {"1"}, {R"("a")"}},
      {R"({"type":"boolean","not":{"const":true}})", {"false"}, {"true"}},
      {R"({"type":["integer","null"],"not":{"const":3}})", {"2", "4", "null"}, {"3"}},
      {R"({"type":"object","not":{"properties":{"a":{"type":"string"}}}})",
       {R"({"a":1})"},
       {"{}", R"({"a":"x"})", R"({"b":1})"}},
  };
  check_cases(cases);
}

TEST(Schemas, ConditionsAndDependencies) {
  const Case cases[] = {
      {R"({"type":"object","properties":{"a":{"type":"integer"},"b":{"type":"integer"}},"additionalProperties":false,
          "if":{"required":["a"]},"then":{"required":["b"]}})",
       {"{}", R"({"b":1})", R"({"a":1,"b":1})"},
       {R"({"a":1})"}},
      {R"({"type":"integer","if":{"minimum":10},"then":{"multipleOf":2},"else":{"maximum":3}})",
       {"12", "2"},
       {"11", "5"}},
      {R"({"type":"object","properties":{"a":true,"b":true},"dependentRequired":{"a":["b"]}})",
       {"{}", R"({"b":1})", R"({"a":1,"b":1})"},
       {R"({"a":1})"}},
      {R"({"type":"object","properties":{"a":true,"b":true},"dependencies":{"a":{"properties":{"b":{"type":"null"}},"required":["b"]}}})",
       {R"({"b":1})", R"({"a":1,"b":null})"},
       {R"({"a":1})", R"({"a":1,"b":1})"}},
      {R"({"type":"array","maxItems":3,"contains":{"const":1}})",
       {"[1]", "[0,1]", "[2,2,1]"},
       {"[]", "[2]", "[2,2,2]"}},
      {R"({"type":"object","propertyNames":{"pattern":"^a"}})", {"{}", R"({"ab":1})"}, {R"({"b":1})"}},
      {R"({"type":"object","propertyNames":{"maxLength":2}})", {R"({"ab":1})"}, {R"({"abc":1})"}},
      {R"({"type":"object","properties":{"a":true},"unevaluatedProperties":false})",
       {R"({"a":1})"},
       {R"({"b":1})"}},
      {R"({"type":"array","maxItems":1,"uniqueItems":true})", {"[]", "[1]"}, {"[1,2]"}},
  };
  check_cases(cases);
}

TEST(Schemas, ReferencesAreFoundWhereverTheyLead) {
  const Case cases[] = {
      {R"({"$ref":"#/$defs/a~1b%20c","$defs":{"a/b c":{"type":"null"}}})", {"null"}, {"1"}},
      {R"({"$ref":"#here","$defs":{"x":{"$anchor":"here","type":"null"}}})", {"null"}, {"1"}},
      {R"({"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false})",
       {"{}", R"({"next":{"next":{}}})"},
       {R"({"next":1})"}},
      {R"({"$id":"http://x/y","type":"array","items":{"$ref":"http://x/y"}})", {"[]", "[[],[[]]]"}, {"[1]"}},
  };
  check_cases(cases);
}

TEST(Schemas, UnknownFormatsAreAnnotationsAndKnownOnesHold) {
  const Case cases[] = {
      {R"({"type":"string","format":"path"})", {R"("a b")"}, {"1"}},
      {R"({"type":"integer","format":"int64"})", {"1"}, {R"("1")"}},
      {R"({"type":"string","format":"ipv4"})", {R"("1.2.3.4")"}, {R"("1.2.3")"}},
      {R"({"type":"string","format":"json-pointer"})", {R"("")", R"("/a/b~0")"}, {R"("a")", R"("/~2")"}},
  };
  check_cases(cases);
}

TEST(Schemas, KeywordsThatDoNotConcernTheTypeAreNoReasonToRefuse) {
  const Case cases[] = {
      {R"({"type":"string","uniqueItems":true,"contains":{},"maxLength":1})", {R"("a")"}, {R"("ab")"}},
      {R"({"$schema":"http://json-schema.org/draft-04/schema#","type":"integer","minimum":3,"exclusiveMinimum":true})",
       {"4"},
       {"3"}},
  };
  check_cases(cases);
}

TEST(Schemas, WhatHasNoExactFormIsRefusedWithItsPlace) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"properties":{"a":{"type":"array","uniqueItems":true}}})", "unsupported_schema_keyword",
       "field.properties.a.uniqueItems"},
      {R"({"items":[{"not":{"pattern":"a"}}]})", "unsupported_schema_keyword", "field.items[0].not"},
      {R"({"oneOf":[{"multipleOf":2},{"multipleOf":3}]})", "unsupported_schema_keyword", "field.oneOf"},
      {R"({"type":"array","contains":{"type":"null"}})", "unsupported_schema_keyword", "field.contains"},
      {R"({"type":"string","format":"iri"})", "unsupported_schema_keyword", "field.format"},
      {R"({"$ref":"http://elsewhere/schema"})", "unsupported_schema_keyword", "field.$ref"},
      {R"({"$dynamicRef":"#x"})", "unsupported_schema_keyword", "field.$dynamicRef"},
      {R"({"anyOf":[{"$ref":"#/$defs/a"}],"$defs":{"a":{"if":{"pattern":"a"},"then":false}}})",
       "unsupported_schema_keyword", "field.$defs.a.if"},
      {R"({"patternProperties":{"a":{"type":"null"},"b":{"type":"string"}},"type":"object"})",
       "unsupported_schema_keyword", "field.patternProperties"},
      {R"({"pattern":"(?=a)b"})", "unsupported_schema_keyword", "field.pattern"},
      {R"({"type":"thing"})", "invalid_json_schema", "field.type"},
      {R"({"required":"a"})", "invalid_json_schema", "field.required"},
      {R"({"properties":{"a":7}})", "invalid_json_schema", "field.properties.a"},
      {R"({"minLength":-1})", "invalid_json_schema", "field.minLength"},
      {R"([])", "invalid_json_schema", "field"},
      {R"(false)", "invalid_json_schema", "field"},
  };
  for (const auto& [schema, reason, param] : cases) {
    const auto error = error_of(GrammarKind::json_schema, schema);
    ASSERT_TRUE(error) << schema;
    EXPECT_EQ(error->reason(), reason) << schema << ": " << error->message();
    EXPECT_EQ(error->param(), param) << schema << ": " << error->message();
  }
}

std::string nested(int64_t depth) {
  std::string schema;
  for (int64_t i = 0; i < depth; ++i) schema += R"({"items":)";
  return schema + "{}" + std::string(static_cast<size_t>(depth), '}');
}

// Each ends soon, in a grammar or an error, and takes nothing with it.
TEST(Schemas, HostileOnesAreBounded) {
  std::string many = R"({"oneOf":[)", wide = R"({"type":"object","properties":{)";
  for (int i = 0; i < 200; ++i) many += fmt::format(R"({}{{"required":["k{}"]}})", i > 0 ? "," : "", i);
  for (int i = 0; i < 20'000; ++i) wide += fmt::format(R"({}"k{}":{{"type":"string"}})", i > 0 ? "," : "", i);
  const std::string schemas[] = {
      nested(100'000),
      nested(120),
      many + "]}",
      wide + "}}",
      R"({"$ref":"#"})",
      R"({"not":{"$ref":"#"}})",
      R"({"oneOf":[{"$ref":"#"},{"$ref":"#"}]})",
      R"({"allOf":[{"$ref":"#"},{"$ref":"#"}]})",
      R"~({"type":"string","pattern":"((((((a{0,1000}){0,1000}){0,1000}){0,1000})){0,1000}b)"})~",
      R"({"type":"string","minLength":1000000000,"maxLength":1000000000})",
      R"({"type":"array","minItems":1000000000})",
      R"({"type":"integer","multipleOf":1e-300})",
      R"({"type":"number","minimum":1e308,"maximum":-1e308})",
      R"({"enum":[)" + std::string(100'000, '[') + std::string(100'000, ']') + "]}",
  };
  for (const std::string& schema : schemas) {
    const auto start = std::chrono::steady_clock::now();
    error_of(GrammarKind::json_schema, schema);
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30)) << schema.substr(0, 80);
  }
}

TEST(Schemas, LongTextsAreCountedAndNotUnrolled) {
  const Grammar grammar = compile(GrammarKind::json_schema, R"({"type":"string","maxLength":20000})");
  EXPECT_TRUE(accepts(grammar, "\"" + std::string(20'000, 'a') + "\""));
  EXPECT_FALSE(accepts(grammar, "\"" + std::string(20'001, 'a') + "\""));
}

}  // namespace
}  // namespace neutrino::text
