// Vocabularies as a hostile file may say them: each is refused with a clear error, or works.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/random.h"
#include "tokenizer/family_golden.h"
#include "tokenizer/hard_text.h"
#include "tokenizer/pattern.h"

namespace neutrino::tokenizer {
namespace {

using testing::HasSubstr;

std::string error_of(const std::function<void()>& act) {
  try {
    act();
  } catch (const Error& error) {
    return error.message();
  }
  return "no error";
}

Vocabulary small(std::string_view model, std::vector<std::string> tokens) {
  Vocabulary v{.model = std::string(model), .pre = "gpt-2", .tokens = std::move(tokens)};
  v.scores.assign(v.tokens.size(), -1);
  v.kinds.assign(v.tokens.size(), TokenKind::normal);
  return v;
}

TEST(HostileVocabulary, MissingUnknownTokenIsAnErrorOfTheText) {
  for (const char* model : {"llama", "t5", "bert"}) {
    const auto tokenizer = make_tokenizer(small(model, {"a", "\u2581a"}));
    EXPECT_THAT(error_of([&] { tokenizer->encode("zz", Special::parse); }), HasSubstr("neither a token for"))
        << model;
    EXPECT_TRUE(tokenizer->encode("", Special::parse).empty()) << model;
  }
}

TEST(HostileVocabulary, ScoresOfAnySizeGiveTokens) {
  for (const char* model : {"llama", "t5"}) {
    Vocabulary v = small(model, {"<unk>", "a", "b", "ab", "ba", "aba", "\u2581"});
    v.kinds[0] = TokenKind::unknown, v.unknown = 0;
    for (const double big : {1e308, -1e308, HUGE_VAL, -HUGE_VAL}) {
      v.scores = {0, big, -big, big, big, -big, 0};
      EXPECT_FALSE(make_tokenizer(v)->encode("abababab c aaaa", Special::parse).empty()) << model << big;
    }
    v.scores[3] = NAN;
    EXPECT_THAT(error_of([&] { make_tokenizer(v); }), HasSubstr("not a number"));
  }
}

TEST(HostileVocabulary, TokensThatAreNotTextAreNeverReadBeyond) {
  for (const char* model : {"llama", "t5", "bert", "gemma4"}) {
    Vocabulary v =
        small(model, {"<unk>", "\xFF", "\xE4", "\xE4\xB8", "", "\u2581", "\u2581\xC3", "a\xF0\x9F", "a"});
    v.kinds[0] = TokenKind::unknown, v.unknown = 0;
    const auto tokenizer = make_tokenizer(v);
    for (const char* text : {"\xE4\xB8\xAD", "a\xF0\x9F", "\xFF\xFF a", "\xC3", "a"}) {
      const std::vector<int32_t> ids = tokenizer->encode(text, Special::parse);
      EXPECT_FALSE(ids.empty()) << model;
      decode(*tokenizer, ids, false);
    }
  }
}

TEST(HostileVocabulary, LongTokensAreRefusedWhereTimeDependsOnThem) {
  for (const char* model : {"llama", "t5"}) {
    const Vocabulary v = small(model, {"a", std::string(2000, 'a')});
    EXPECT_THAT(error_of([&] { make_tokenizer(v); }), HasSubstr("must have at most 1024 bytes")) << model;
  }
}

// "a" makes "aa" makes "a": merges in a circle end all the same, as each leaves one symbol less.
TEST(HostileVocabulary, MergesInACircleEnd) {
  Vocabulary v = small("gpt2", {"a", "aa", "aaa", "b"});
  v.merges = {"a a", "aa a", "a aa"};
  const auto tokenizer = make_tokenizer(v);
  EXPECT_FALSE(tokenizer->encode(std::string(100'000, 'a'), Special::parse).empty());
}

TEST(HostileVocabulary, BadPipelinesAreRefused) {
  const Vocabulary good = family_vocabulary(read_tokenizer_golden("families/bert-uncased.json"));
  EXPECT_EQ(error_of([&] { make_tokenizer(good); }), "no error");
  const std::pair<const char*, const char*> cases[] = {
      {"{", "not valid"},
      {"[]", "must be an object"},
      {R"({"model": {"type": "BPE"}, "normalizer": {"type": "Magic"}})", "normaliser \"Magic\" is not known"},
      {R"({"model": {"type": "BPE"}, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}})",
       "charsmap"},
      {R"({"model": {"type": "BPE"}, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "A"}})",
       "base64"},
      {R"({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+b"}}})",
       "not known"},
      {R"({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Split", "pattern": {"String": ""}}})",
       "not known"},
      {R"({"model": {"type": "BPE"}, "pre_tokenizer": {"type": "Sequence"}})", "must have \"pretokenizers\""},
      {R"({"model": {"type": "BPE"}, "decoder": {"type": "CTC"}})", "decoder \"CTC\" is not known"},
      {R"({"model": {"type": "BPE"}, "added_tokens": [{"content": "nowhere"}]})", "not in the vocabulary"},
      {R"({"model": {"type": "BPE"}, "post_processor": {"type": "BertProcessing", "sep": ["x", 99999], "cls": ["y", 0]}})",
       "must be 0-"},
      {R"({"model": {"type": "BPE", "end_of_word_suffix": "</w>"}})", "not known"},
      {R"({"model": {"type": "WordPiece", "max_input_chars_per_word": -1}})", "must be 0-"},
  };
  for (const auto& [pipeline, message] : cases) {
    Vocabulary v = good;
    v.pipeline = pipeline;
    EXPECT_THAT(error_of([&] { make_tokenizer(v); }), HasSubstr(message)) << pipeline;
  }
}

TEST(HostileVocabulary, UnknownRegularExpressionsAreRefused) {
  for (const char* regex : {"",           "(",    "[",       "[a",  "[b-a]",   "\\",          "\\p",   "\\p{",
                            "\\p{Greek}", "a*",   "(?<=a)b", "a**", "a{2000}", "a{",          ".",     "^a",
                            "\\d+",       "a+ab", "(?i:x)",  "|",   "a|",      "[[:alpha:]]", "[a&&b]"})
    EXPECT_NE(error_of([&] { Pattern::regex(regex); }), "no error") << regex;
  EXPECT_EQ(error_of([&] { Pattern::regex("[^a-c\\r]{2,3}| ?[\\p{L}\\-]+"); }), "no error");
}

// Charsmaps of random bytes: every index is checked.
TEST(HostileVocabulary, RandomCharsmapsAreReadWithinTheirBounds) {
  Random random(9);
  for (int round = 0; round < 300; ++round) {
    Vocabulary v = small("t5", {"<unk>", "a", "\u2581"});
    v.kinds[0] = TokenKind::unknown, v.unknown = 0;
    const auto units = static_cast<uint32_t>(random.between(1, 600));
    std::string charsmap(4 + units * 4 + random.below(20), '\0');
    for (char& c : charsmap) c = static_cast<char>(random.below(256));
    for (int i = 0; i < 4; ++i)
      charsmap[static_cast<size_t>(i)] = static_cast<char>(units * 4 >> 8 * i & 0xFF);
    v.precompiled_charsmap = charsmap;
    make_tokenizer(v)->encode(HardText(static_cast<uint64_t>(round)).make(200), Special::parse);
  }
}

}  // namespace
}  // namespace neutrino::tokenizer
