#include "chat/answer_stream.h"

#include <gtest/gtest.h>

#include <random>

#include "chat/testing/list_tokenizer.h"

namespace neutrino::chat {
namespace {

using testing::ListTokenizer;
using Kind = AnswerPiece::Kind;

std::shared_ptr<AnswerSyntax> hermes() {
  auto syntax = std::make_shared<AnswerSyntax>();
  syntax->reasoning = find_reasoning_tags("think");
  syntax->calls = &find_tool_syntax("hermes");
  syntax->tools.all = true;
  return syntax;
}

struct Outcome {
  std::string reasoning, content, calls, matched;
  std::vector<GeneratedToken> tokens;
  int64_t reasoning_tokens = 0;
  bool operator==(const Outcome& other) const {
    return reasoning == other.reasoning && content == other.content && calls == other.calls &&
           matched == other.matched;
  }
};

void add(Outcome& outcome, const GenerationChunk& chunk) {
  std::string content;
  for (const AnswerPiece& piece : chunk.pieces) {
    if (piece.kind == Kind::reasoning) outcome.reasoning += piece.text;
    if (piece.kind == Kind::content) content += piece.text;
    if (piece.kind == Kind::call_begin) outcome.calls += piece.name;
    if (piece.kind == Kind::call_arguments) outcome.calls += piece.text;
  }
  EXPECT_EQ(content, chunk.text);
  outcome.content += content;
  outcome.tokens.insert(outcome.tokens.end(), chunk.tokens.begin(), chunk.tokens.end());
}

Outcome run(const std::vector<std::string>& texts, TextStreamOptions options = {},
            std::shared_ptr<AnswerSyntax> syntax = hermes()) {
  const ListTokenizer tokenizer(texts);
  AnswerStream stream(tokenizer, std::move(options), std::move(syntax), "id");
  Outcome outcome;
  for (int32_t id = 0; id < tokenizer.size(); ++id) {
    const bool ended = stream.push({.token = id});
    GenerationChunk chunk;
    stream.take(chunk);
    add(outcome, chunk);
    if (ended) break;
  }
  stream.finish();
  GenerationChunk chunk;
  stream.take(chunk);
  add(outcome, chunk);
  outcome.matched = stream.matched();
  outcome.reasoning_tokens = stream.reasoning_tokens();
  return outcome;
}

TEST(AnswerStream, TellsTokensApart) {
  const Outcome outcome = run({"<think>", "\n", "Hm", ".\n</", "think>", "\n\n", "Yes", ", so.",
                               "<tool_call>", "{\"name\": \"f\"", "}", "</tool_call>"});
  EXPECT_EQ(outcome.reasoning, "Hm.");
  EXPECT_EQ(outcome.content, "Yes, so.");
  EXPECT_EQ(outcome.calls, "f{}");
  std::string parts;
  for (const GeneratedToken& token : outcome.tokens) parts += "cr."[static_cast<int>(token.part)];
  EXPECT_EQ(parts, ".rrr..cc....");
  EXPECT_EQ(outcome.reasoning_tokens, 3);
  EXPECT_EQ(outcome.tokens[7].text, ", so.");
  EXPECT_EQ(outcome.tokens[2].text, "");
}

TEST(AnswerStream, StopStringsAreOfContentAlone) {
  const std::vector<std::string> texts = {"<think>END</think>", "a E", "N", "D b", "c"};
  const Outcome cut = run(texts, {.stop = {"END"}});
  EXPECT_EQ(cut.reasoning, "END");
  EXPECT_EQ(cut.content, "a ");
  EXPECT_EQ(cut.matched, "END");
  EXPECT_EQ(cut.tokens.size(), 4U);
  EXPECT_EQ(run(texts, {.stop = {"END"}, .include_stop = true}).content, "a END");
  EXPECT_EQ(run(texts, {.stop = {"END"}, .min_tokens = 2}).content, "a END bc");
  EXPECT_EQ(run({"<tool_call>{\"name\": \"END\", \"arguments\": {\"a\": \"END\"}}</tool_call>", "x"},
                {.stop = {"END"}})
                .calls,
            "END{\"a\": \"END\"}");
  // A call parts the content: nothing matches across it.
  EXPECT_EQ(run({"E<tool_call>{\"name\": \"f\"}</tool_call>ND"}, {.stop = {"END"}}).content, "END");
}

TEST(AnswerStream, SpecialTokensAreTextWhereTheParserReadsThem) {
  auto syntax = hermes();
  syntax->calls = &find_tool_syntax("granite");
  const std::vector<std::string> texts = {"a", "<|hidden|>", "b", "<|tool_call|>", "[{\"name\": \"f\"}]"};
  const Outcome outcome = run(texts, {}, syntax);
  EXPECT_EQ(outcome.content, "ab");
  EXPECT_EQ(outcome.calls, "f{}");
  EXPECT_EQ(run(texts, {.skip_special_tokens = false}, syntax).content, "a<|hidden|>b");
  EXPECT_EQ(run(texts).content, "ab[{\"name\": \"f\"}]");  // not a marker of hermes
}

TEST(AnswerStream, ACutCharacterIsShownAtTheEnd) {
  EXPECT_EQ(run({"a\xC3", "\xA9z"}).content, "a\xC3\xA9z");
  EXPECT_EQ(run({"a", "b\xE2\x82"}).content, "ab\xEF\xBF\xBD");
}

// However a text is cut into tokens, the answer is the same, and the tokens are all given out.
TEST(AnswerStream, ACutCharacterBelongsToTheTokenThatBeganIt) {
  const Outcome outcome = run({"<think>", "Hm", "\xF0\x9F", "</", "think>", "Yes", "\xF0\x9F", "!"});
  EXPECT_EQ(outcome.reasoning, "Hm\uFFFD");
  EXPECT_EQ(outcome.reasoning_tokens, 2);  // the tag is none
  EXPECT_EQ(outcome.content, "Yes\uFFFD!");
  ASSERT_EQ(outcome.tokens.size(), 8u);
  EXPECT_EQ(outcome.tokens[6].text, "\uFFFD");
  EXPECT_EQ(outcome.tokens[7].text, "!");
}

TEST(AnswerStream, TheSameForAnyTokens) {
  const std::string text =
      "<think>\nI must caf\xC3\xA9 look.\n</think>\n\nI l\xC3\xB6\xC3\xB6k STO now. <tool_call>\n{\"name\": "
      "\"weather\", \"arguments\": {\"city\": "
      "\"STOP \xF0\x9F\x98\x80\"}}\n</tool_call>\n<tool_call>oops STO</tool_call> P. STO";
  const TextStreamOptions options = {.stop = {"STOP"}};
  const Outcome whole = run({text}, options);
  EXPECT_EQ(whole.content, "I l\xC3\xB6\xC3\xB6k STO now.\n<tool_call>oops STO</tool_call> P. STO");
  std::mt19937 random(4);
  for (int round = 0; round < 300; ++round) {
    std::vector<std::string> texts;
    for (size_t at = 0; at < text.size();) {
      const size_t size = std::min<size_t>(text.size() - at, 1 + random() % 7);
      texts.push_back(text.substr(at, size));
      at += size;
    }
    const Outcome outcome = run(texts, options);
    ASSERT_TRUE(outcome == whole) << outcome.content << " " << outcome.calls;
    ASSERT_EQ(outcome.tokens.size(), texts.size());
    std::string content;
    for (const GeneratedToken& token : outcome.tokens)
      if (token.part == TokenPart::content) content += texts[static_cast<size_t>(token.token)];
    ASSERT_GE(content.size(), whole.content.size());
  }
}

}  // namespace
}  // namespace neutrino::chat
