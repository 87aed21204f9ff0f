#include "tokenizer/stream_decoder.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "tokenizer/test_vocabulary.h"
#include "tokenizer/utf8.h"

namespace neutrino::tokenizer {
namespace {

std::string replace_invalid(std::string_view bytes, size_t step) {
  std::string held, out;
  for (size_t at = 0; at < bytes.size(); at += step) {
    append_utf8(held, bytes.substr(at, step), out);
    EXPECT_LT(held.size(), 4u);
  }
  if (!held.empty()) out += "\uFFFD";
  return out;
}

// The expected texts are those of the WHATWG Encoding Standard's decoder (and of Python's errors="replace").
TEST(StreamDecoder, ReplacesEachMaximalSubpart) {
  const std::pair<std::string, std::string> cases[] = {
      {"", ""},
      {"plain", "plain"},
      {"\u00e9\u4e2d\U0001F600", "\u00e9\u4e2d\U0001F600"},
      {"\x80", "\uFFFD"},
      {"a\xFF\xFE z", "a\uFFFD\uFFFD z"},
      {"\xC3", "\uFFFD"},
      {"\xC3(", "\uFFFD("},
      {"\xC0\xAF", "\uFFFD\uFFFD"},                      // overlong
      {"\xE0\x80\xAF", "\uFFFD\uFFFD\uFFFD"},            // overlong
      {"\xED\xA0\x80", "\uFFFD\uFFFD\uFFFD"},            // surrogate
      {"\xF4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},  // beyond U+10FFFF
      {"\xF0\x9F\x98", "\uFFFD"},                        // one for a whole prefix
      {"\xF0\x9F\x98x", "\uFFFDx"},
      {"\xE2\x82\xE2\x82\xAC", "\uFFFD\u20AC"},
      {"\xF0\x80\x80\x41",
       "\uFFFD\uFFFD\uFFFD"
       "A"},
      {"\xF1\x80\x80\xE1\x80\xC2\x41",
       "\uFFFD\uFFFD\uFFFD"
       "A"},
      {std::string("\0\xC3", 2), std::string("\0\xEF\xBF\xBD", 4)},
  };
  for (const auto& [bytes, expected] : cases)
    for (size_t step = 1; step <= 8; ++step)
      EXPECT_EQ(replace_invalid(bytes, step), expected) << testing::PrintToString(bytes);
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const Utf8Char c = first_char(text);
    if (c.state != Utf8::valid) return false;
    text.remove_prefix(c.length);
  }
  return true;
}

TEST(StreamDecoder, PiecesAreValidAndAddUpToDecode) {
  const json::value golden = read_tokenizer_golden("tiny.json");
  const auto tokenizer = make_tokenizer(tiny_vocabulary(golden, "smollm"));
  Random random(2);
  int64_t held = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<int32_t> ids(random.below(60));
    for (int32_t& id : ids) id = static_cast<int32_t>(random.below(random.chance(0.5) ? 300 : 1000));
    for (const bool skip : {false, true}) {
      StreamDecoder decoder(*tokenizer, skip);
      std::string all;
      for (const int32_t id : ids) {
        std::string piece;
        decoder.push(id, piece);
        ASSERT_TRUE(is_utf8(piece));
        all += piece;
        held += decoder.held_bytes() > 0;
      }
      decoder.finish(all);
      ASSERT_TRUE(is_utf8(all));
      ASSERT_EQ(all, decode(*tokenizer, ids, skip));
    }
  }
  EXPECT_GT(held, 100);  // else the test would not have tested the holding back
}

// The negative control: tokens decoded each for itself do split characters.
TEST(StreamDecoder, TokensAloneWouldSplitCharacters) {
  const json::value golden = read_tokenizer_golden("tiny.json");
  const auto tokenizer = make_tokenizer(tiny_vocabulary(golden, "smollm"));
  std::string alone;
  for (const int32_t id : tokenizer->encode("🧑‍🚀", Special::parse))
    alone += decode(*tokenizer, std::vector{id}, false);
  EXPECT_NE(alone, "🧑‍🚀");
  EXPECT_EQ(decode(*tokenizer, tokenizer->encode("🧑‍🚀", Special::parse), false), "🧑‍🚀");
}

}  // namespace
}  // namespace neutrino::tokenizer
