#include "chat/text_stream.h"

#include <gtest/gtest.h>

#include "chat/testing/list_tokenizer.h"

namespace neutrino::chat {
namespace {

using testing::ListTokenizer;

struct Case {
  const char* name;
  std::vector<std::string> tokens;
  TextStreamOptions options;
  std::vector<std::string> released;  // after each token, and after the end
  std::string matched;
};

// Pushes the tokens one by one, and takes after each.
std::vector<std::string> stream(const Case& test, TextStream& stream, std::vector<GeneratedToken>& tokens) {
  std::vector<std::string> released;
  for (int32_t id = 0; id < static_cast<int32_t>(test.tokens.size()); ++id) {
    const bool ended = stream.push({.token = id});
    released.emplace_back();
    stream.take(released.back(), tokens);
    if (ended) return released;
  }
  stream.finish();
  released.emplace_back();
  stream.take(released.back(), tokens);
  return released;
}

TEST(TextStream, ReleasesWhatIsCertain) {
  const std::vector<Case> cases = {
      {"no stop strings", {"a", "b"}, {}, {"a", "b", ""}, ""},
      {"a character over two tokens", {"a\xC3", "\xA9z"}, {}, {"", "a\xC3\xA9z", ""}, ""},
      {"an unfinished character", {"a", "b\xE2\x82"}, {}, {"a", "", "b\xEF\xBF\xBD"}, ""},
      {"special tokens skipped", {"a", "<|x|>", "b"}, {}, {"a", "", "b", ""}, ""},
      {"special tokens shown", {"a", "<|x|>"}, {.skip_special_tokens = false}, {"a", "<|x|>", ""}, ""},
      {"stop inside a token", {"ab", "cENDd", "e"}, {.stop = {"END"}}, {"ab", "c"}, "END"},
      {"stop kept", {"ab", "cENDd"}, {.stop = {"END"}, .include_stop = true}, {"ab", "cEND"}, "END"},
      {"stop over three tokens", {"aE", "N", "Db"}, {.stop = {"END"}}, {"", "", "a"}, "END"},
      {"a false start", {"aE", "N", "x", "y"}, {.stop = {"END"}}, {"", "", "aENx", "y", ""}, ""},
      {"the end of the text is a false start", {"a", "EN"}, {.stop = {"END"}}, {"a", "", "EN"}, ""},
      {"a start inside a false start", {"aa", "a", "b"}, {.stop = {"aab"}}, {"", "", "a"}, "aab"},
      {"the first of two", {"one two"}, {.stop = {"two", "one"}}, {""}, "one"},
      {"the longest at the same end", {"xab"}, {.stop = {"b", "ab"}}, {"x"}, "ab"},
      {"stop in a special token that is not text",
       {"a", "<|END|>", "b"},
       {.stop = {"END"}},
       {"a", "", "b", ""},
       ""},
      {"early tokens do not match",
       {"END", "E", "ND"},
       {.stop = {"END"}, .min_tokens = 2},
       {"END", "E", "ND", ""},
       ""},
      {"later tokens do", {"END", "END"}, {.stop = {"END"}, .min_tokens = 1}, {"END", ""}, "END"},
      {"multi-byte stop", {"a\xC3", "\xA9", "b"}, {.stop = {"\xC3\xA9"}}, {"", "a"}, "\xC3\xA9"},
  };
  for (const Case& test : cases) {
    SCOPED_TRACE(test.name);
    const ListTokenizer tokenizer(test.tokens);
    TextStream text(tokenizer, test.options);
    std::vector<GeneratedToken> tokens;
    const std::vector<std::string> released = stream(test, text, tokens);
    EXPECT_EQ(released, test.released);
    EXPECT_EQ(text.matched(), test.matched);
    std::string all, all_tokens;
    for (const std::string& part : released) all += part;
    for (const GeneratedToken& token : tokens) all_tokens += token.text;
    EXPECT_EQ(all_tokens, all) << "the texts of the tokens are the text";
    EXPECT_EQ(static_cast<int64_t>(tokens.size()), text.tokens_seen()) << "no token is lost";
  }
}

TEST(TextStream, AnEndTokenCountsAndIsNoText) {
  const ListTokenizer tokenizer({"E", "<|end|>"});
  TextStream text(tokenizer, {.stop = {"END"}, .skip_special_tokens = false});
  text.push({.token = 0});
  text.push_silent({.token = 1});
  std::string all;
  std::vector<GeneratedToken> tokens;
  text.take(all, tokens);
  EXPECT_EQ(all, "E");
  ASSERT_EQ(tokens.size(), 2U);
  EXPECT_EQ(tokens[1].token, 1);
}

}  // namespace
}  // namespace neutrino::chat
