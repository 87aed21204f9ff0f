#include "tokenizer/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"

namespace neutrino::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kSmall = R"({
  "added_tokens": [
    {"id": 4, "content": "<|end|>", "special": true, "lstrip": false, "rstrip": false, "normalized": false, "single_word": false},
    {"id": 6, "content": "<tool>", "special": false, "lstrip": false, "rstrip": false, "normalized": true, "single_word": false}],
  "normalizer": null,
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": null,
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "unk_token": null, "vocab": {"a": 0, "b": 1, "\u0120": 2, "ab": 3}, "merges": [["a", "b"]]}})";

TEST(TokenizerJson, ReadsByteLevelBpe) {
  const Vocabulary v =
      read_tokenizer_json(kSmall, R"({"eos_token": {"content": "<|end|>"}, "add_bos_token": false})", "",
                          R"({"eos_token_id": [4, 6]})");
  EXPECT_EQ(v.model, "gpt2");
  EXPECT_EQ(v.pre, "gpt-2");
  EXPECT_THAT(v.tokens, ElementsAre("a", "b", "\u0120", "ab", "<|end|>", "[PAD5]", "<tool>"));
  EXPECT_EQ(v.kinds[4], TokenKind::control);
  EXPECT_EQ(v.kinds[5], TokenKind::unused);
  EXPECT_EQ(v.kinds[6], TokenKind::user_defined);
  EXPECT_THAT(v.merges, ElementsAre("a b"));
  EXPECT_EQ(v.eos, 4);
  EXPECT_THAT(v.stops, ElementsAre(4, 6));
  EXPECT_EQ(v.add_bos, false);
  const auto tokenizer = make_tokenizer(v);
  EXPECT_THAT(tokenizer->encode("ab a<|end|>", Special::parse), ElementsAre(3, 2, 0, 4));
  EXPECT_THAT(tokenizer->stop_tokens(), ElementsAre(4, 6));
}

std::string replaced(std::string_view from, std::string_view to) {
  std::string text(kSmall);
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(TokenizerJson, RefusesWhatContradictsItself) {
  struct Case {
    std::string text;
    const char* message;
  };
  const Case cases[] = {
      {"", "must have a \"model\""},
      {"[]", "tokenizer.json must be an object"},
      {"{\"model\": 7}", "\"model\" must be an object"},
      {"{\"model\": {}}", "must have a \"vocab\""},
      {replaced("\"b\": 1", "\"b\": 0"), "have the same id 0"},
      {replaced("\"b\": 1", "\"b\": -1"), "must be 0-"},
      {replaced("\"b\": 1", "\"b\": 4000000000"), "must be 0-"},
      {replaced("\"b\": 1", "\"b\": \"1\""), "must be 0-"},
      {replaced("\"id\": 6", "\"id\": 4000000"), "must have an id below 65542"},
      {replaced("\"b\": 1", "\"a\": 1"), "twice"},
      {replaced("\"id\": 4", "\"id\": 3"), "have the same id 3"},
      {replaced("[[\"a\", \"b\"]]", "[[\"a\"]]"), "must be two tokens"},
      {replaced("[[\"a\", \"b\"]]", "{}"), "\"merges\" must be an array"},
      {replaced("\"type\": \"BPE\"", "\"type\": \"WordLevel\""), "got \"WordLevel\""},
  };
  for (const Case& one : cases) {
    try {
      read_tokenizer_json(one.text);
      ADD_FAILURE() << one.text;
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), HasSubstr(one.message));
    }
  }
}

}  // namespace
}  // namespace neutrino::tokenizer
