// Grammars other than schemas: GBNF and structural tags, and schemas inside Lark.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "text/testing/byte_vocabulary.h"

namespace neutrino::text {
namespace {

using testing::accepts;
using testing::compile;
using testing::error_of;
using ::testing::HasSubstr;

struct Case {
  const char* grammar;
  std::vector<const char*> valid, invalid;
};

void check_cases(GrammarKind kind, std::span<const Case> cases) {
  for (const Case& c : cases) {
    const Grammar grammar = compile(kind, c.grammar);
    for (const char* text : c.valid) EXPECT_TRUE(accepts(grammar, text)) << c.grammar << " refuses " << text;
    for (const char* text : c.invalid)
      EXPECT_FALSE(accepts(grammar, text)) << c.grammar << " accepts " << text;
  }
}

constexpr const char* kJson = R"~(
# JSON, with white space that is bounded
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws
object ::= "{" ws ( string ":" ws value ("," ws string ":" ws value)* )? "}" ws
array  ::= "[" ws ( value ("," ws value)* )? "]" ws
string ::= "\"" ( [^"\\\x00-\x1F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F]{4}) )* "\"" ws
number ::= "-"? ([0-9] | [1-9] [0-9]{0,15}) ("." [0-9]+)? ([eE] [-+]? [0-9]{1,3})? ws
ws     ::= | " " | "\n" [ \t]{0,20}
)~";

TEST(Gbnf, IsReadAsLlamaCppReadsIt) {
  const Case cases[] = {
      {"root ::= \"yes\" | \"no\"", {"yes", "no"}, {"", "yesno", "y"}},
      {"root ::= [a-c]+ \"-\" [^a-c\\n]?", {"abc-", "a-d"}, {"-", "a-a", "a-\n"}},
      {"root ::= item{2,3}\nitem ::= \"x\" | \"\\u00e9\" | \"\\x41\"", {"xx", "xAé"}, {"x", "xxxx"}},
      {"root ::= (\"a\"\n | \"b\") .  # any\n", {"ax", "b\n"}, {"a", "axx"}},
      {"root ::= a{3}\na ::= \"z\"", {"zzz"}, {"zz", "zzzz"}},
      {"root ::= \"(\" root \")\" | \"x\"", {"x", "((x))"}, {"(x", "x)", ""}},
      {"root ::= \"say \\\"hi\\\"\" \"/\\\\\"", {"say \"hi\"/\\"}, {"say hi"}},
      {"root ::= list\nlist ::= \"-\" word \"\\n\" list | \"\"\nword ::= [a-z]+",
       {"", "-a\n-bc\n"},
       {"-\n", "-a"}},
      {kJson,
       {"{}", R"({"a":[1,-2.5e+3,"x\"\u00e9",true,null,{}]})", "{ \"a\": [ ] }\n"},
       {"[]", R"({"a":})", R"({a:1})", R"({"a":01})", R"({"a":1)"}},
  };
  check_cases(GrammarKind::gbnf, cases);
}

TEST(Gbnf, SpecialTokensAreTokens) {
  GrammarMatcher matcher(compile(GrammarKind::gbnf, "root ::= <|tool|> [a-z]"));
  EXPECT_TRUE(testing::may_come(matcher, testing::kTool));
  EXPECT_FALSE(testing::may_come(matcher, '<'));
}

TEST(Gbnf, ErrorsSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "root"},
      {"start ::= \"a\"", "root"},
      {"root ::= nothing", "nothing"},
      {"root ::= \"a\nx ::= \"b\"", "line 1"},
      {"root ::= [z-a]", "upwards"},
      {"root ::= (\"a\"", "expected )"},
      {"root ::= \"a\"{3,2}", "{m,n}"},
      {"root ::= \"a\"\nroot ::= \"b\"", "twice"},
      {"root ::= \"\\q\"", "escape"},
      {"root ::= root", ""},
  };
  for (const auto& [grammar, part] : cases) {
    const auto error = error_of(GrammarKind::gbnf, grammar);
    ASSERT_TRUE(error) << grammar;
    EXPECT_EQ(error->reason(), "invalid_grammar");
    EXPECT_THAT(error->message(), HasSubstr(part)) << grammar;
  }
}

// A lexer that takes all it can would refuse "aab": refused as a grammar, rather than wrong.
TEST(Gbnf, WhatALexerWouldGetWrongIsRefused) {
  const auto error = error_of(GrammarKind::gbnf, "root ::= word \"ab\" root | \".\"\nword ::= [a-z]+");
  ASSERT_TRUE(error);
  EXPECT_THAT(error->message(), HasSubstr("lexemes"));
  EXPECT_TRUE(accepts(GrammarKind::gbnf, "root ::= word \"ab\"\nword ::= [a-z]+", "aab"))
      << "without recursion it is exact";
}

constexpr const char* kTags = R"({"type":"structural_tag","triggers":["<f="],"structures":[
  {"begin":"<f=add>","schema":{"type":"object","properties":{"n":{"type":"integer"}},"required":["n"],"additionalProperties":false},"end":"</f>"},
  {"begin":"<f=now>","schema":{"type":"null"},"end":"</f>"}]})";

TEST(StructuralTags, FollowTheirTriggers) {
  const Case cases[] = {
      {kTags,
       {"", "only text", "a<f=add>{\"n\":1}</f>b<f=now>null</f>", "<f", "<f=now>null</f>"},
       {"<f=", "<f=sub>{}</f>", "<f=add>{}</f>", "<f=now>null"}},
      {R"({"format":{"type":"sequence","elements":[{"type":"const_string","value":"A"},{"type":"json_schema","json_schema":{"type":"boolean"}},
          {"type":"any_text"}]}})",
       {"Atrue", "Afalse and more"},
       {"A", "true"}},
      {R"({"format":{"type":"or","elements":[{"type":"regex","pattern":"[0-9]+"},{"type":"tag","begin":"<t>","content":{"type":"any_text"},"end":"</t>"}]}})",
       {"12", "<t>x<b>y</t>"},
       {"", "<t>x", "<t>x</t></t>"}},
      {R"({"format":{"type":"triggered_tags","triggers":["<"],"at_least_one":true,"stop_after_first":true,
          "tags":[{"begin":"<a>","content":{"type":"const_string","value":"1"},"end":"</a>"}]}})",
       {"text <a>1</a>"},
       {"text", "<a>1</a> more", "<b>"}},
      {R"~({"format":{"type":"tags_with_separator","separator":",","at_least_one":true,
          "tags":[{"begin":"(","content":{"type":"json_schema","json_schema":{"enum":[1,2]}},"end":")"}]}})~",
       {"(1)", "(1),(2)"},
       {"", "(1)(2)", "(3)"}},
  };
  check_cases(GrammarKind::structural_tag, cases);
}

TEST(StructuralTags, ErrorsSayWhere) {
  const std::pair<const char*, const char*> cases[] = {
      {"{", "field"},
      {"{}", "field"},
      {R"({"structures":[],"triggers":["<"]})", "field.structures"},
      {R"({"structures":[{"begin":"<a>","schema":{},"end":""}],"triggers":["["]})", "field"},
      {R"({"format":{"type":"picture"}})", "field.format.type"},
      {R"({"structures":[{"begin":"<a>","schema":{"items":{"uniqueItems":true}},"end":""}],"triggers":["<"]})",
       "field.structures[0].schema.items.uniqueItems"},
  };
  for (const auto& [tag, param] : cases) {
    const auto error = error_of(GrammarKind::structural_tag, tag);
    ASSERT_TRUE(error) << tag;
    EXPECT_EQ(error->param(), param) << error->message();
  }
}

TEST(Lark, SchemasInsideAreMadeReadyAsOthersAre) {
  const Case cases[] = {
      {R"(start: "a" %json {"type":"object","properties":{"x":{"oneOf":[{"type":"null"},{"type":"boolean"}]}},"additionalProperties":false} "b")",
       {R"(a{"x": true}b)", "a{}b"},
       {R"(a{  "x":true}b)", R"(a{"x":1}b)"}},
      {"start: \"%json {\" x // %json\nx: /%json [{]/", {"%json {%json {"}, {"%json {"}},
  };
  check_cases(GrammarKind::lark, cases);
  EXPECT_EQ(error_of(GrammarKind::lark, R"(start: %json {"uniqueItems":true})")->reason(),
            "unsupported_schema_keyword");
  EXPECT_EQ(error_of(GrammarKind::lark, "start: %json nothing")->reason(), "invalid_json_schema");
}

// Whatever is put together from parts of grammars compiles or is an Error.
TEST(Grammars, RandomOnesEndInAGrammarOrAnError) {
  const std::vector<std::pair<GrammarKind, std::vector<std::string>>> kinds = {
      {GrammarKind::gbnf,
       {"root", " ::= ", "\"a\"", "[a-z]", "(", ")", "*", "{2}", " | ", "x", "\n", "<|tool|>", ".", "\\",
        "#"}},
      {GrammarKind::lark,
       {"start", ": ", "\"a\"", "/[a-z]/", "(", ")", "*", "{2,3}", " | ", "X", "\n", "<|tool|>", "~", "&",
        "%json {}", "[lazy]"}},
      {GrammarKind::regex,
       {"a", "(", ")", "[", "]", "^", "$", "*", "{2,30}", "|", "\\d", "\\", "(?i)", ".", "é"}},
      {GrammarKind::json_schema,
       {"{", "}", "\"type\":", "\"object\"", ",", "\"not\":", "\"items\":", "[", "]", "1", "\"$ref\":\"#\"",
        "\"oneOf\":", "true"}},
      {GrammarKind::structural_tag,
       {"{", "}", "\"format\":", "\"type\":\"or\"", ",", "\"elements\":", "[", "]", "\"any_text\""}},
  };
  Random random(3);
  for (const auto& [kind, parts] : kinds)
    for (int round = 0; round < 150; ++round) {
      std::string text;
      for (int64_t left = random.between(1, 16); left > 0; --left)
        text += parts[static_cast<size_t>(random.below(std::ssize(parts)))];
      const auto error = error_of(kind, text);
      EXPECT_THAT(error ? error->message() : "", ::testing::Not(HasSubstr("engine failed"))) << text;
    }
}

}  // namespace
}  // namespace neutrino::text
