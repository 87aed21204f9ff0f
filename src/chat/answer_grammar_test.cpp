#include "chat/answer_grammar.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "base/json.h"
#include "chat/answer_parser.h"

namespace neutrino::chat {
namespace {

using Kind = AnswerPiece::Kind;
using ::testing::HasSubstr;

constexpr int32_t kEnd = 256, kSpecial = 257;

// Tokens are bytes; then an end token, and one for a syntax's trigger.
text::GrammarVocabulary vocabulary(std::string_view special) {
  text::VocabularyTokens tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.bytes.emplace_back(1, static_cast<char>(byte));
  tokens.bytes.emplace_back("<end>");
  tokens.bytes.emplace_back(special);
  tokens.special.assign(tokens.bytes.size(), false);
  tokens.special[kEnd] = tokens.special[kSpecial] = true;
  tokens.end_tokens = {kEnd};
  return text::GrammarVocabulary(std::move(tokens));
}

const json::array& tools() {
  static const json::array tools = parse_json(R"([
    {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "required": ["city", "days"],
      "additionalProperties": false, "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"type": "integer",
      "minimum": 0, "maximum": 99}, "units": {"type": "string", "enum": ["C", "F"]}, "on": {"type": "boolean"},
      "code": {"type": "string", "pattern": "^[A-Z]{2}$"}}}}},
    {"type": "function", "function": {"name": "now"}}])")
                                       .as_array();
  return tools;
}

AnswerStyle style_of(std::string_view syntax, bool special = false) {
  AnswerStyle style{.calls = &find_tool_syntax(syntax)};
  if (special) style.special.emplace(style.calls->trigger, kSpecial);
  if (style.calls == &kHarmonySyntax) style.reasoning = find_reasoning_tags("harmony");
  return style;
}

text::Grammar compile(const AnswerStyle& style, const AnswerRules& rules) {
  const auto spec = answer_grammar(style, rules);
  check(spec.has_value(), "no grammar");
  return text::Grammar(vocabulary(style.calls->trigger.empty() ? "<special>" : style.calls->trigger), *spec);
}

// As the engine does, but with a mask for every 64 tokens only: what each of them may cost is bounded mask by mask.
bool accepts(const text::Grammar& grammar, std::string_view text) {
  text::GrammarMatcher matcher(grammar);
  std::vector<uint64_t> mask(static_cast<size_t>(grammar.mask_words()));
  for (size_t i = 0; i < text.size(); ++i) {
    if (i % 64 == 0 && !matcher.fill_mask(mask)) return false;
    if (!matcher.consume(static_cast<unsigned char>(text[i]))) return false;
  }
  return matcher.is_accepting();
}

TEST(AnswerGrammar, TheChoiceIsEnforced) {
  const std::string call = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";
  const std::string other =
      "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\", \"days\": 3}}\n</tool_call>";
  struct Case {
    AnswerRules rules;
    std::string text;
    bool good;
  };
  const std::vector<Case> cases = {
      {{.tools = tools()}, "Hello <b>!", true},
      {{.tools = tools()}, "Well:\n" + call + "\n" + other, true},
      {{.tools = tools()}, call + " and more", false},
      {{.tools = tools()},
       "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>",
       false},
      {{.tools = tools()}, "<tool_call>\n{\"name\": \"never\"", false},
      {{.tools = tools(), .parallel = false}, call, true},
      {{.tools = tools(), .parallel = false}, call + "\n" + call, false},
      {{.tools = tools(), .choice = ToolChoice::required}, call, true},
      {{.tools = tools(), .choice = ToolChoice::required}, "Hello", false},
      {{.tools = tools(), .choice = ToolChoice::required, .function = "weather"}, call, false},
      {{.tools = tools(), .choice = ToolChoice::required, .function = "weather"}, other, true},
      {{.tools = tools(), .choice = ToolChoice::none}, "Hello", true},
      {{.tools = tools(), .choice = ToolChoice::none}, call, false},
      {{.tools = tools(),
        .content =
            text::GrammarSpec{.kind = text::GrammarKind::json_schema, .text = R"({"type":"integer"})"}},
       "12",
       true},
      {{.tools = tools(),
        .content =
            text::GrammarSpec{.kind = text::GrammarKind::json_schema, .text = R"({"type":"integer"})"}},
       "twelve",
       false},
      {{.tools = tools(),
        .content = text::GrammarSpec{.kind = text::GrammarKind::choice, .text = R"(["a","b"])"}},
       call,
       true},
  };
  for (const Case& test : cases)
    EXPECT_EQ(accepts(compile(style_of("hermes"), test.rules), test.text), test.good) << test.text;
}

TEST(AnswerGrammar, WithoutToolsTheContentsRuleStaysAsItIs) {
  EXPECT_EQ(answer_grammar(style_of("hermes"), {}), std::nullopt);
  const text::GrammarSpec spec{.kind = text::GrammarKind::regex, .text = "a+"};
  EXPECT_EQ(answer_grammar(style_of("hermes"), {.content = spec})->kind, text::GrammarKind::regex);
  EXPECT_THROW(answer_grammar(style_of("hermes"), {.tools = tools(), .content = spec}), Error);
}

TEST(AnswerGrammar, ASpecialTokenBeginsACall) {
  const text::Grammar grammar = compile(style_of("granite", true), {.tools = tools()});
  text::GrammarMatcher matcher(grammar);
  for (const char byte : std::string_view("Hi"))
    ASSERT_TRUE(matcher.consume(static_cast<unsigned char>(byte)));
  ASSERT_TRUE(matcher.consume(kSpecial));
  EXPECT_FALSE(matcher.is_accepting());
  for (const char byte : std::string_view("[{\"name\": \"now\", \"arguments\": {}}]"))
    ASSERT_TRUE(matcher.consume(static_cast<unsigned char>(byte)));
  EXPECT_TRUE(matcher.is_accepting());
  EXPECT_FALSE(accepts(grammar, "<|tool_call|>"));  // its text is none
}

TEST(AnswerGrammar, WhatASyntaxCannotWriteIsRefusedByName) {
  const auto refusal = [](std::string_view schema) -> Error {
    json::object function = {{"name", "f"}, {"parameters", parse_json(schema)}};
    try {
      answer_grammar(style_of("qwen3_coder"),
                     {.tools = {json::object{{"type", "function"}, {"function", function}}}});
    } catch (const Error& error) {
      return error;
    }
    return Error(ErrorCode::internal, "not refused");
  };
  EXPECT_EQ(refusal(R"({"type":"object","minProperties":1})").param(),
            "tools[0].function.parameters.minProperties");
  EXPECT_EQ(refusal(R"({"type":"object","properties":{"a":{"type":"string","format":"hostname"}}})").param(),
            "tools[0].function.parameters.properties.a.format");
  EXPECT_EQ(refusal(R"({"type":"object","properties":{"a":{"type":"string","contentEncoding":"base64"}}})")
                .reason(),
            "unsupported_schema_keyword");
}

// ---- a model without sense: any token that may come, until the answer ends

struct Written {
  std::string text;
  bool ended = false;
};

Written write_at_random(const text::Grammar& grammar, std::string_view trigger, std::mt19937& random) {
  text::GrammarMatcher matcher(grammar);
  std::vector<uint64_t> mask(static_cast<size_t>(grammar.mask_words()));
  Written written;
  for (int step = 0; step < 3'000; ++step) {
    if (!matcher.fill_mask(mask)) break;
    std::vector<int32_t> allowed,
        other;  // ASCII where that is allowed, so that texts have no half characters; else markup's bytes
    for (int32_t token = 0; token <= kSpecial; ++token)
      if (mask[static_cast<size_t>(token / 64)] >> (token % 64) & 1)
        (token < 128 || token >= kEnd ? allowed : other).push_back(token);
    if (allowed.empty()) allowed = std::move(other);
    if (allowed.empty()) break;
    const int32_t token = allowed[random() % allowed.size()];
    EXPECT_TRUE(matcher.consume(token)) << matcher.error();
    if (token == kEnd) {
      written.ended = true;
      break;
    }
    written.text += token == kSpecial ? std::string(trigger) : std::string(1, static_cast<char>(token));
  }
  return written;
}

TEST(AnswerGrammar, EverySyntaxWritesWhatItsParserReads) {
  std::mt19937 random(7);
  for (const ToolSyntax* syntax : kToolSyntaxes) {
    const AnswerStyle style = style_of(syntax->name);
    const text::Grammar grammar = compile(
        style, {.tools = tools(), .choice = ToolChoice::required, .parallel = syntax != &kHarmonySyntax});
    auto answer = std::make_shared<AnswerSyntax>();
    answer->calls = syntax;
    answer->reasoning = style.reasoning;
    for (const json::value& tool : tools())
      answer->tools.parameters[std::string(tool.at("function").at("name").as_string())] =
          parameters_schema(tool.at("function").as_object(), "");
    int calls = 0;
    for (int round = 0; round < 6; ++round) {
      const Written written = write_at_random(grammar, syntax->trigger, random);
      if (!written.ended) continue;
      AnswerParser parser(answer, "id");
      parser.push(written.text);
      parser.finish();
      EXPECT_FALSE(parser.failed()) << written.text;
      std::vector<AnswerPiece> pieces;
      for (ReadPiece& read : parser.take()) {
        const AnswerPiece& piece = read.piece;
        EXPECT_TRUE(piece.kind != Kind::content || syntax == &kHarmonySyntax)
            << piece.text << " in " << written.text;
        if (!pieces.empty() && pieces.back().kind == Kind::call_arguments &&
            piece.kind == Kind::call_arguments)
          pieces.back().text += piece.text;
        else
          pieces.push_back(piece);
      }
      std::string name;
      for (const AnswerPiece& piece : pieces) {
        if (piece.kind == Kind::call_begin) name = piece.name;
        if (piece.kind != Kind::call_arguments) continue;
        const json::object arguments = parse_json(piece.text).as_object();
        ++calls;
        if (name == "now") {
          EXPECT_TRUE(arguments.empty());
          continue;
        }
        EXPECT_TRUE(arguments.at("city").is_string() && arguments.at("days").is_int64()) << piece.text;
        EXPECT_LE(arguments.at("city").as_string().size(), 6U) << piece.text;
        EXPECT_LE(arguments.at("days").as_int64(), 99) << piece.text;
        if (arguments.contains("code")) {
          EXPECT_EQ(arguments.at("code").as_string().size(), 2U) << piece.text;
        }
      }
    }
    EXPECT_GT(calls, 0) << syntax->name;
  }
}

TEST(AnswerGrammar, ManyToolsAndLongTextsAreNoTrouble) {
  json::array many;
  for (int i = 0; i < 80; ++i) {
    json::object properties;
    for (int j = 0; j < 6; ++j)
      properties[fmt::format("p{}", j)] =
          json::object{{"type", "string"}, {"description", std::string(150, 'x')}, {"maxLength", 2000}};
    properties["script"] = json::object{{"type", "string"}, {"maxLength", 20000}};
    json::object parameters = {
        {"type", "object"}, {"properties", properties}, {"required", json::array{"script"}}};
    many.push_back(json::object{
        {"type", "function"},
        {"function", json::object{{"name", fmt::format("tool_{}", i)}, {"parameters", parameters}}}});
  }
  ASSERT_GT(to_text(many).size(), 100'000U);
  const std::string script(20'000, 'y');
  EXPECT_TRUE(accepts(
      compile(style_of("hermes"), {.tools = many}),
      "<tool_call>\n{\"name\": \"tool_7\", \"arguments\": {\"script\": \"" + script + "\"}}\n</tool_call>"));
  const text::Grammar tagged = compile(style_of("qwen3_coder"), {.tools = many});
  const auto call = [](const std::string& text) {
    return "<tool_call>\n<function=tool_7>\n<parameter=script>\n" + text +
           "\n</parameter>\n</function>\n</tool_call>";
  };
  EXPECT_TRUE(accepts(tagged, call(script)));
  EXPECT_FALSE(accepts(tagged, call(script + "y")));
}

}  // namespace
}  // namespace neutrino::chat
