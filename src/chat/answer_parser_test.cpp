#include "chat/answer_parser.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "chat/testing/parsed_answer.h"

namespace neutrino::chat {
namespace {

using Kind = AnswerPiece::Kind;
using testing::merged;
using testing::ParsedAnswer;
using testing::show;

// What a model wrote, and what it means: r(reasoning) c(content) f{arguments}, a "!" at the end for a failed parse.
struct Transcript {
  const char* syntax;     // "": no tools
  const char* reasoning;  // "": none; "inside:think": the prompt ended in it
  std::string text;
  std::string pieces;
};

std::shared_ptr<const AnswerSyntax> syntax_of(const Transcript& transcript) {
  auto syntax = std::make_shared<AnswerSyntax>();
  std::string_view reasoning = transcript.reasoning;
  if (reasoning.starts_with("inside:")) {
    syntax->in_reasoning = true;
    reasoning.remove_prefix(7);
  }
  if (!reasoning.empty()) syntax->reasoning = find_reasoning_tags(reasoning);
  if (*transcript.syntax) syntax->calls = &find_tool_syntax(transcript.syntax);
  syntax->tools = testing::weather_tools();
  return syntax;
}

// `cut`: how many bytes the next piece has.
template <typename Cut>
ParsedAnswer parse(const Transcript& transcript, std::string_view text, Cut cut) {
  std::vector<std::string_view> parts;
  for (size_t size; !text.empty(); text.remove_prefix(size)) {
    size = std::min<size_t>(text.size(), cut());
    parts.push_back(text.substr(0, size));
  }
  return testing::parse_parts(syntax_of(transcript), parts);
}

ParsedAnswer parse_whole(const Transcript& transcript) {
  return parse(transcript, transcript.text, [] { return std::string::npos; });
}

std::vector<Transcript> transcripts() {
  return {
      {"", "", "Plain text.\n", "c(Plain text.\n)"},
      {"", "", "  <tool_call> is only text here", "c(  <tool_call> is only text here)"},
      {"", "think", "<think>\nHm.\n</think>\n\nYes.", "r(Hm.)c(Yes.)"},
      {"", "think", "Yes, <think> is a tag.", "c(Yes, <think> is a tag.)"},
      {"", "think", "<think>\n\n</think>\n\nYes.", "c(Yes.)"},
      {"", "inside:think", "Hm.\n\nWell.</thin </think>Yes.", "r(Hm.\n\nWell.</thin)c(Yes.)"},
      {"", "inside:think", "Hm, never finis", "r(Hm, never finis)"},
      {"", "mistral", "[THINK]Hm.[/THINK]Yes.", "r(Hm.)c(Yes.)"},
      {"", "seed", "<seed:think>Hm.</seed:think>Yes.", "r(Hm.)c(Yes.)"},
      {"hermes", "",
       "I look.\n<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"K\\u00f6ln\", \"days\": "
       "3}}\n</tool_call>",
       "c(I look.)weather{\"city\": \"K\\u00f6ln\", \"days\": 3};"},
      {"hermes", "think",
       "<think>two</think>\n<tool_call>{\"name\": \"now\", \"arguments\": "
       "{}}</tool_call>\n<tool_call>\n{\"arguments\": {\"days\": [1, {\"a\": null}]}, "
       "\"name\": \"weather\"}\n</tool_call>\n",
       "r(two)now{};weather{\"days\": [1, {\"a\": null}]};"},
      {"hermes", "", "<tool_call>\n{\"name\": \"now\"}\n</tool_call>Done.", "now{};c(Done.)"},
      {"hermes", "", "<tool_call>\n{\"name\": \"never\", \"arguments\": {}}\n</tool_call>",
       "c(<tool_call>\n{\"name\": \"never\", \"arguments\": {}}\n</tool_call>)!"},
      {"hermes", "", "a < b <tool_x> <tool_call>weather</tool_call>",
       "c(a < b <tool_x> <tool_call>weather</tool_call>)!"},
      {"hermes", "", "<tool_call>{\"name\": \"now\", \"arguments\": {\"a\": 01}}</tool_call>",
       "now{\"a\": 0;c(1}}</tool_call>)!"},
      {"qwen3_coder", "",
       "Now:\n<tool_call>\n<function=weather>\n<parameter=city>\nNew "
       "\"York\"\nCity\n</parameter>\n<parameter=days>\n3\n</parameter>\n"
       "<parameter=tags>\n[\"a\", 1]\n</parameter>\n</function>\n</tool_call>",
       "c(Now:)weather{\"city\": \"New \\\"York\\\"\\nCity\", \"days\": 3, \"tags\": [\"a\", 1]};"},
      {"qwen3_coder", "", "<tool_call>\n<function=now>\n</function>\n</tool_call>", "now{};"},
      {"qwen3_coder", "",
       "<tool_call>\n<function=weather>\n<parameter=where>\nhere or "
       "there\n</parameter>\n</function>\n</tool_call>",
       "weather{\"where\": \"here or there\"};"},
      {"glm", "think",
       "\n<think>Hm.</think>\n\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>12</"
       "arg_value>\n<arg_key>days</arg_key>\n<arg_value>12</arg_value>\n"
       "</tool_call>\n<tool_call>now\n</tool_call>",
       "r(Hm.)weather{\"city\": \"12\", \"days\": 12};now{};"},
      {"glm", "", "<tool_call>weather<arg_key>where</arg_key><arg_value>null</arg_value></tool_call>",
       "weather{\"where\": null};"},
      {"llama3_json", "", "{\"name\": \"weather\", \"parameters\": {\"city\": \"Rome\"}}",
       "weather{\"city\": \"Rome\"};"},
      {"llama3_json", "",
       "<|python_tag|>{\"type\": \"function\", \"name\": \"now\", \"parameters\": {}}; {\"name\": \"f\", "
       "\"parameters\": {\"a\": 1}}",
       "now{};f{\"a\": 1};"},
      {"llama3_json", "", "{\"answer\": 42}", "c({\"answer\": 42})"},
      {"llama3_json", "", "Use {\"name\": \"now\", \"parameters\": {}}",
       "c(Use {\"name\": \"now\", \"parameters\": {}})"},
      {"pythonic", "", "[weather(city='It\\'s \"K\\xf6ln\"', days=3, tags=[True, None, {'a': -1.5}]), now()]",
       "weather{\"city\": \"It's \\\"K\\u00f6ln\\\"\", \"days\": 3, \"tags\": [true, null, {\"a\": "
       "-1.5}]};now{};"},
      {"pythonic", "", "[1, 2] is a list", "c([1, 2] is a list)"},
      {"lfm2", "think", "<think>a</think><|tool_call_start|>[f(a=\"x\", b=true)]<|tool_call_end|>Done.",
       "r(a)f{\"a\": \"x\", \"b\": true};c(Done.)"},
      {"mistral", "",
       "Well.[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": {\"days\": 1}, \"id\": \"abc123def\"}, "
       "{\"name\": \"now\", \"arguments\": {}}]",
       "c(Well.)weather{\"days\": 1};now{};"},
      {"mistral_args", "mistral",
       "[THINK]Hm.[/THINK][TOOL_CALLS]weather[ARGS]{\"days\": 1}[TOOL_CALLS]now[CALL_ID]abc123def[ARGS]{}",
       "r(Hm.)weather{\"days\": 1};now{};"},
      {"deepseek_v3", "inside:think",
       "Hm.\n</think>\n\nI "
       "look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{\"city\": "
       "\"Bern\"}\n```<｜tool▁call▁end｜>\n"
       "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><"
       "｜tool▁calls▁end｜>",
       "r(Hm.)c(I look.)weather{\"city\": \"Bern\"};now{};"},
      {"deepseek_v31", "",
       "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{\"days\": "
       "2}<｜tool▁call▁end｜><｜tool▁call▁begin｜>now<｜tool▁sep｜>{}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
       "weather{\"days\": 2};now{};"},
      {"nemotron", "inside:think",
       "Hm.</think><TOOLCALL>[{\"name\": \"f\", \"arguments\": {\"x\": [true, false]}}, {\"name\": \"now\", "
       "\"arguments\": {}}]</TOOLCALL>",
       "r(Hm.)f{\"x\": [true, false]};now{};"},
      {"granite", "", "<|tool_call|>[{\"name\": \"f\", \"arguments\": {\"x\": 1e5}}]", "f{\"x\": 1e5};"},
      {"harmony", "harmony",
       "<|channel|>analysis<|message|>Need the "
       "weather.<|end|><|start|>assistant<|channel|>commentary<|message|>I "
       "look.<|end|><|start|>assistant<|channel|>commentary "
       "to=functions.weather <|constrain|>json<|message|>{\"city\":\"Oslo\"}<|call|>",
       "r(Need the weather.)c(I look.)weather{\"city\":\"Oslo\"};"},
      {"harmony", "harmony", " to=functions.now<|channel|>commentary json<|message|>{}", "now{};"},
      {"", "harmony",
       "<|channel|>analysis<|message|>Hm. "
       "<|end|><|start|>assistant<|channel|>final<|message|>Hello.<|return|>",
       "r(Hm.)c(Hello.)"},
      {"", "harmony", "plain after all", "c(plain after all)"},
  };
}

TEST(AnswerParser, ReadsEverySyntax) {
  for (const Transcript& transcript : transcripts())
    EXPECT_EQ(show(parse_whole(transcript)), transcript.pieces)
        << transcript.syntax << ": " << transcript.text;
}

TEST(AnswerParser, EverySyntaxHasATranscriptWithACall) {
  for (const ToolSyntax* syntax : kToolSyntaxes) {
    int calls = 0;
    for (const Transcript& transcript : transcripts())
      calls +=
          transcript.syntax == syntax->name && transcript.pieces.find('{') < transcript.pieces.find("c({");
    EXPECT_GT(calls, 0) << syntax->name;
  }
}

TEST(AnswerParser, DoesNotDependOnHowTheTextIsCut) {
  std::mt19937 random(1);
  for (const Transcript& transcript : transcripts()) {
    EXPECT_EQ(show(parse(transcript, transcript.text, [] { return 1; })), transcript.pieces);
    for (int i = 0; i < 20; ++i)
      EXPECT_EQ(show(parse(transcript, transcript.text, [&] { return 1 + random() % 9; })),
                transcript.pieces);
  }
}

TEST(AnswerParser, HoldsBackNoMoreThanItMust) {
  AnswerParser parser(syntax_of({"hermes", "think", "", ""}), "id");
  const auto push = [&](std::string_view text) {
    parser.push(text);
    return show({.pieces = parser.take()});
  };
  EXPECT_EQ(push("<thi"), "");
  EXPECT_EQ(push("nk>a b "), "r(a b)");
  EXPECT_EQ(push("c</t"), "r( c)");
  EXPECT_EQ(push("hink>x"), "c(x)");
  EXPECT_EQ(push(" <tool"), "");
  EXPECT_EQ(push(" y <tool_call>"), "c( <tool y)");
  EXPECT_EQ(push("{\"name\": \"f\", \"arguments\": {\"a\""), "f{\"a\"");
  EXPECT_EQ(push(": 1}"), ": 1}");
  EXPECT_EQ(push("}"), ";");
}

// ---- nothing is lost

std::string lost_text(std::string_view raw, const ParsedAnswer& parsed, const Transcript& transcript) {
  return testing::lost_text(
      raw, parsed,
      testing::markup_texts(*transcript.syntax ? &find_tool_syntax(transcript.syntax) : nullptr));
}

std::string mutated(std::string text, const std::vector<Transcript>& all, std::mt19937& random) {
  const auto below = [&](size_t count) { return count == 0 ? 0 : random() % count; };
  for (size_t changes = 1 + below(4); changes > 0; --changes) {
    const size_t at = below(text.size()), size = below(12);
    const std::string& other = all[below(all.size())].text;
    switch (below(6)) {
      case 0: text.erase(at, size); break;
      case 1: text.insert(at, text.substr(below(text.size()), size)); break;
      case 2:
        if (!text.empty()) text[at] = "<>{}[]\"'\\ \n,:;=()aZ09|/"[below(24)];
        break;
      case 3: text.resize(at); break;
      case 4: text.insert(at, other.substr(below(other.size()), 4 * size)); break;
      default: text += other;
    }
  }
  return text;
}

TEST(AnswerParser, LosesNothingOfMutatedTranscripts) {
  const std::vector<Transcript> all = transcripts();
  const char* const is_long = std::getenv("NEUTRINO_TEST_LONG");
  const int rounds = is_long ? 100'000 : 3'000;
  std::mt19937 random(2);
  int failed = 0, calls = 0;
  for (int i = 0; i < rounds && !HasFailure(); ++i) {
    const Transcript& transcript = all[random() % all.size()];
    const std::string text = mutated(transcript.text, all, random);
    const ParsedAnswer whole = parse(transcript, text, [] { return std::string::npos; });
    const ParsedAnswer cut = parse(transcript, text, [&] { return 1 + random() % 5; });
    ASSERT_EQ(show(whole), show(cut)) << text;
    ASSERT_EQ(lost_text(text, whole, transcript), "") << transcript.syntax << " " << text << "\n"
                                                      << show(whole);
    failed += whole.failed;
    for (const AnswerPiece& piece : merged(whole.pieces)) calls += piece.kind == Kind::call_begin;
  }
  EXPECT_GT(failed, rounds / 50);  // the mutations reach what is behind the first step
  EXPECT_GT(calls, rounds / 10);
}

// A call that has ended without a failure has arguments that are a JSON object.
TEST(AnswerParser, ArgumentsOfWholeCallsAreObjects) {
  const std::vector<Transcript> all = transcripts();
  std::mt19937 random(3);
  int objects = 0;
  for (int i = 0; i < 3'000; ++i) {
    const Transcript& transcript = all[random() % all.size()];
    const std::string text = mutated(transcript.text, all, random);
    const ParsedAnswer parsed = parse(transcript, text, [] { return std::string::npos; });
    if (parsed.failed) continue;
    for (const AnswerPiece& piece : merged(parsed.pieces)) {
      if (piece.kind != Kind::call_arguments) continue;
      ASSERT_TRUE(testing::is_json_object(piece.text)) << piece.text;
      ++objects;
    }
  }
  EXPECT_GT(objects, 100);
}

TEST(AnswerParser, LostTextIsSeen) {
  const Transcript transcript{"hermes", "", "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>",
                              ""};
  ParsedAnswer parsed = parse_whole(transcript);
  EXPECT_EQ(lost_text(transcript.text, parsed, transcript), "");
  parsed.pieces.erase(parsed.pieces.begin());  // the name
  EXPECT_EQ(lost_text(transcript.text, parsed, transcript), "f");
}

TEST(AnswerParser, SyntaxIsFoundInTheTemplate) {
  const std::vector<std::pair<std::string, const char*>> cases = {
      {"... <tool_call>\\n{\"name\": <function-name>, ...", "hermes"},
      {"<tool_call>\\n<function=' + tool_call.name", "qwen3_coder"},
      {"<tool_call>{function-name}\\n<arg_key>", "glm"},
      {"'[TOOL_CALLS][' ... '[TOOL_RESULTS]'", "mistral"},
      {"'[TOOL_CALLS]' + name + '[ARGS]'", "mistral_args"},
      {"<｜tool▁calls▁begin｜> ```json", "deepseek_v3"},
      {"<｜tool▁calls▁begin｜>", "deepseek_v31"},
      {"<|channel|>analysis<|message|>", "harmony"},
      {"'<TOOLCALL>['", "nemotron"},
      {"followed by <|tool_call|>", "granite"},
      {"{\"name\": function name, \"parameters\": dictionary", "llama3_json"},
  };
  for (const auto& [source, name] : cases) {
    const ToolSyntax* found = detect_tool_syntax(source);
    ASSERT_NE(found, nullptr) << source;
    EXPECT_EQ(found->name, name);
  }
  EXPECT_EQ(detect_tool_syntax("<|im_start|>user"), nullptr);
  EXPECT_THROW(find_tool_syntax("nothing"), Error);
}

TEST(Reasoning, TagsAreFoundInTheTemplateAndThePrompt) {
  EXPECT_EQ(detect_reasoning_tags("<|im_start|>assistant\n<think>\n")->name, "think");
  EXPECT_EQ(detect_reasoning_tags("[THINK]")->name, "mistral");
  EXPECT_EQ(detect_reasoning_tags("<|im_start|>"), nullptr);
  EXPECT_EQ(find_reasoning_tags("none"), nullptr);
  EXPECT_THROW(find_reasoning_tags("thoughts"), Error);
  const ReasoningTags& think = *find_reasoning_tags("think");
  EXPECT_TRUE(ends_in_reasoning("<|im_start|>assistant\n<think>\n", think));
  EXPECT_FALSE(ends_in_reasoning("<|im_start|>assistant\n<think>\n\n</think>\n\n", think));
  EXPECT_FALSE(ends_in_reasoning("", think));
}

}  // namespace
}  // namespace neutrino::chat
