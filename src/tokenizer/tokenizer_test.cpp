#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cmath>
#include <ctime>
#include <functional>
#include <thread>

#include "base/error.h"
#include "base/limits.h"
#include "base/random.h"
#include "tokenizer/test_vocabulary.h"

namespace neutrino::tokenizer {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const json::value& golden() {
  static const json::value value = read_tokenizer_golden("tiny.json");
  return value;
}

Vocabulary vocabulary(std::string_view pre = "smollm") { return tiny_vocabulary(golden(), pre); }

std::vector<int32_t> ids_of(const json::value& list) {
  std::vector<int32_t> ids;
  for (const auto& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
  return ids;
}

std::string error_of(const std::function<void()>& act, ErrorCode code = ErrorCode::invalid_argument) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error_code_name(error.code()), error_code_name(code)) << error.message();
    return error.message();
  }
  return "no error";
}

TEST(Tokenizer, GivesTheIdsOfHuggingFaceTokenizers) {
  for (const std::string pre : {"gpt-2", "smollm"}) {
    const auto tokenizer = make_tokenizer(vocabulary(pre));
    int64_t as_text = 0;
    for (const json::value& item : golden().at("cases").as_array()) {
      const json::object& one = item.as_object();
      const std::string_view text = one.at("text").as_string();
      EXPECT_EQ(tokenizer->encode(text, Special::parse), ids_of(one.at(pre))) << pre << ": " << item;
      EXPECT_EQ(decode(*tokenizer, tokenizer->encode(text, Special::as_text), false), text);
      const json::value* ids = one.if_contains(pre + " as text");
      if (!ids) continue;
      EXPECT_EQ(tokenizer->encode(text, Special::as_text), ids_of(*ids)) << pre << ": " << item;
      ++as_text;
    }
    EXPECT_GE(as_text, 10);
  }
}

// The negative control of the test above: the two pre-tokenizers do differ on its cases.
TEST(Tokenizer, GoldenCasesTellPreTokenizersApart) {
  const auto tokenizer = make_tokenizer(vocabulary("gpt-2"));
  int64_t different = 0;
  for (const json::value& one : golden().at("cases").as_array())
    different += tokenizer->encode(one.at("text").as_string(), Special::parse) != ids_of(one.at("smollm"));
  EXPECT_GE(different, 50);
}

TEST(Tokenizer, CutsOutTheLongestSpecialToken) {
  const auto tokenizer = make_tokenizer(vocabulary());
  EXPECT_THAT(tokenizer->encode("<|im_start|><|im|><|im_", Special::parse), ElementsAre(1, 3, 4));
  EXPECT_EQ(tokenizer->find("<|im|>"), 3);
  EXPECT_EQ(tokenizer->find("<|im"), std::nullopt);
  EXPECT_EQ(tokenizer->find("").has_value(), false);
  ASSERT_TRUE(tokenizer->find(" ").has_value());
  EXPECT_EQ(tokenizer->bytes(*tokenizer->find(" ")), " ");
}

TEST(Tokenizer, KnowsWhereAnAnswerEnds) {
  Vocabulary v = vocabulary();
  v.eot = 5;
  const auto tokenizer = make_tokenizer(std::move(v));
  EXPECT_THAT(tokenizer->stop_tokens(),
              ElementsAre(0, 2, 5));  // <|endoftext|>, <|im_end|> (eos), <tool_call> (eot)
  EXPECT_TRUE(tokenizer->is_stop(2));
  EXPECT_FALSE(tokenizer->is_stop(1));
}

TEST(Tokenizer, PutsBosInFrontOnlyWhereTheModelWantsItAndOnce) {
  Vocabulary v = vocabulary();
  EXPECT_EQ(encode_prompt(*make_tokenizer(v), "", Special::parse), std::vector<int32_t>{});
  v.add_bos = true;
  const auto tokenizer = make_tokenizer(v);
  EXPECT_THAT(encode_prompt(*tokenizer, "", Special::parse), ElementsAre(1));
  EXPECT_THAT(encode_prompt(*tokenizer, "<|im_start|>", Special::parse), ElementsAre(1));
  const auto ids = encode_prompt(*tokenizer, "<|im_start|>", Special::as_text);
  EXPECT_EQ(ids[0], 1);
  EXPECT_GT(ids.size(), 2u);
}

TEST(Tokenizer, SkipsSpecialTokensWhenDecoding) {
  const auto tokenizer = make_tokenizer(vocabulary());
  const auto ids = tokenizer->encode("<|im_start|>user<|im_end|>", Special::parse);
  EXPECT_EQ(decode(*tokenizer, ids, true), "user");
  EXPECT_EQ(decode(*tokenizer, ids, false), "<|im_start|>user<|im_end|>");
}

TEST(Tokenizer, RefusesIdsOutsideTheVocabulary) {
  const auto tokenizer = make_tokenizer(vocabulary());
  for (const int32_t id : {-1, 1000, INT32_MAX, INT32_MIN})
    EXPECT_THAT(error_of([&] { decode(*tokenizer, std::vector{id}, false); }),
                HasSubstr("token id must be 0-999, got"));
}

TEST(Tokenizer, UsesTheUnknownTokenForAByteWithoutOne) {
  Vocabulary v{.model = "gpt2",
               .pre = "gpt-2",
               .tokens = {"<unk>", "a"},
               .kinds = {TokenKind::unknown, TokenKind::normal}};
  EXPECT_THAT(error_of([&] { make_tokenizer(v)->encode("ab", Special::parse); }), HasSubstr("byte 0x62"));
  v.unknown = 0;
  EXPECT_THAT(make_tokenizer(v)->encode("ab\xFF", Special::parse), ElementsAre(1, 0, 0));
}

TEST(Tokenizer, TakesByteTokensForBytes) {
  Vocabulary v{.model = "gpt2",
               .pre = "gpt-2",
               .tokens = {"a", "<0x62>"},
               .kinds = {TokenKind::normal, TokenKind::byte}};
  const auto tokenizer = make_tokenizer(v);
  EXPECT_THAT(tokenizer->encode("ab", Special::parse), ElementsAre(0, 1));
  EXPECT_EQ(tokenizer->bytes(1), "b");
}

// T-TOK-01, T-TOK-03: what a hostile file can say about its vocabulary.
TEST(Tokenizer, RefusesVocabulariesThatContradictThemselves) {
  struct Case {
    const char* message;
    std::function<void(Vocabulary&)> spoil;
  };
  const Case cases[] = {
      {"must have 1-", [](Vocabulary& v) { v = {.model = "gpt2", .pre = "smollm"}; }},
      {"1000 tokens but 999 token types", [](Vocabulary& v) { v.kinds.pop_back(); }},
      {"1000 tokens but 3 scores", [](Vocabulary& v) { v.scores = {1, 2, 3}; }},
      {"token 7 has a score that is not a number",
       [](Vocabulary& v) { v.scores.assign(1000, 0), v.scores[7] = NAN; }},
      {"at most 65536 bytes of text, got 65537",
       [](Vocabulary& v) { v.tokens[900] = std::string((64 << 10) + 1, 'x'); }},
      {"token 12 has the text", [](Vocabulary& v) { v.tokens[12] = v.tokens[11]; }},
      {"token 4 must have a type of 1-6, got 0", [](Vocabulary& v) { v.kinds[4] = TokenKind{0}; }},
      {"token 4 must have a type of 1-6, got 7", [](Vocabulary& v) { v.kinds[4] = TokenKind{7}; }},
      {"got \"<0x-1>\"", [](Vocabulary& v) { v.tokens[0] = "<0x-1>", v.kinds[0] = TokenKind::byte; }},
      {"got \"<0xGG>\"", [](Vocabulary& v) { v.tokens[0] = "<0xGG>", v.kinds[0] = TokenKind::byte; }},
      {"got \"<0x100>\"", [](Vocabulary& v) { v.tokens[0] = "<0x100>", v.kinds[0] = TokenKind::byte; }},
      {"got \"\"", [](Vocabulary& v) { v.tokens[0] = "", v.kinds[0] = TokenKind::byte; }},
      {"holds U+4E2D", [](Vocabulary& v) { v.tokens[999] = "中"; }},
      {"holds U+FFFD", [](Vocabulary& v) { v.tokens[999] = "\xC3"; }},
      {"must be two tokens", [](Vocabulary& v) { v.merges[3] = "a"; }},
      {"must be two tokens", [](Vocabulary& v) { v.merges[3] = ""; }},
      {"must be two tokens", [](Vocabulary& v) { v.merges[3] = " a"; }},
      {"must be two tokens", [](Vocabulary& v) { v.merges[3] = "a "; }},
      {"must be two tokens", [](Vocabulary& v) { v.merges[3] = "a b c"; }},
      {"names a token that is not", [](Vocabulary& v) { v.merges[3] = "a zzzz"; }},
      {"makes a token that is not", [](Vocabulary& v) { v.merges[3] = "<|im_ a"; }},
      {"makes a token that is not", [](Vocabulary& v) { v.merges[3] = "z Q"; }},
      {"in the list twice", [](Vocabulary& v) { v.merges[3] = v.merges[2]; }},
      {"the bos token id must be 0-999, got 1000", [](Vocabulary& v) { v.bos = 1000; }},
      {"the eos token id must be 0-999, got -1", [](Vocabulary& v) { v.eos = -1; }},
      {"the unknown token id", [](Vocabulary& v) { v.unknown = INT32_MAX; }},
      {"the padding token id", [](Vocabulary& v) { v.padding = INT32_MIN; }},
      {"the eot token id", [](Vocabulary& v) { v.eot = 4096; }},
  };
  for (const Case& one : cases) {
    Vocabulary v = vocabulary();
    one.spoil(v);
    EXPECT_THAT(error_of([&] { make_tokenizer(v); }), HasSubstr(one.message));
  }
  EXPECT_EQ(error_of([&] { make_tokenizer(vocabulary()); }), "no error");
}

TEST(Tokenizer, NamesModelsAndPreTokenizersItDoesNotKnow) {
  Vocabulary v = vocabulary("tekken-9");
  EXPECT_THAT(error_of([&] { make_tokenizer(v); }, ErrorCode::unimplemented), HasSubstr("got \"tekken-9\""));
  v.pre = "";
  EXPECT_THAT(error_of([&] { make_tokenizer(v); }, ErrorCode::unimplemented), HasSubstr("got \"\""));
  v.model = "rwkv";
  EXPECT_THAT(error_of([&] { make_tokenizer(v); }, ErrorCode::unimplemented), HasSubstr("got \"rwkv\""));
}

// T-TOK-02. The pages are never touched: the size alone is refused.
TEST(Tokenizer, RefusesATextOf2GiB) {
  const auto tokenizer = make_tokenizer(vocabulary());
  const size_t size = (size_t{2} << 30) + 1;
  void* pages = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(pages, MAP_FAILED);
  const std::string_view text(static_cast<const char*>(pages), size);
  EXPECT_THAT(error_of([&] { tokenizer->encode(text, Special::parse); }), HasSubstr("got 2147483649"));
  ::munmap(pages, size);
}

std::string random_bytes(Random& random, int64_t size) {
  static constexpr std::string_view kPool[] = {" ", "  ", "\n", "a",          "the",   "'s", "7",
                                               "é", "中", "😀", "<|im_end|>", "<|im_", "'"};
  std::string text;
  while (static_cast<int64_t>(text.size()) < size) {
    if (random.chance(0.3))
      text += static_cast<char>(random.below(256));
    else
      text += kPool[random.below(std::size(kPool))];
  }
  return text;
}

TEST(Tokenizer, KeepsEveryByteOfAnyText) {
  const auto tokenizer = make_tokenizer(vocabulary());
  Random random(3);
  for (int round = 0; round < 500; ++round) {
    const std::string text = random_bytes(random, random.below(round % 50 == 0 ? 100'000 : 200));
    for (const Special special : {Special::parse, Special::as_text}) {
      std::string back;
      for (const int32_t id : tokenizer->encode(text, special)) back += tokenizer->bytes(id);
      ASSERT_EQ(back, text);
    }
  }
}

TEST(Tokenizer, PlainTextNeverBecomesAControlToken) {
  const auto tokenizer = make_tokenizer(vocabulary());
  Random random(4);
  for (int round = 0; round < 200; ++round)
    for (const int32_t id : tokenizer->encode(random_bytes(random, 300), Special::as_text))
      ASSERT_FALSE(tokenizer->is_special(id));
}

TEST(Tokenizer, IsSharedByThreads) {
  const auto tokenizer = make_tokenizer(vocabulary());
  const std::string text = read_file(NEUTRINO_SOURCE_DIR "/tests/golden/tokenizer/text.txt", 1 << 20);
  const auto expected = tokenizer->encode(text, Special::parse);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 20; ++round) EXPECT_EQ(tokenizer->encode(text, Special::parse), expected);
    });
  for (std::thread& thread : threads) thread.join();
}

double cpu_milliseconds(const std::function<void()>& work) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
  };
  const double start = now();
  work();
  return now() - start;
}

// Time of this thread alone for a size and for twice that size, the best of alternating rounds: a slow moment of the machine
// hits both, and hardly all rounds.
struct Growth {
  double half = 1e9, whole = 1e9;
  double ratio() const { return whole / half; }
};
Growth measure_growth(int rounds, const std::function<void()>& half, const std::function<void()>& whole) {
  Growth growth;
  for (int round = 0; round < rounds; ++round) {
    growth.half = std::min(growth.half, cpu_milliseconds(half));
    growth.whole = std::min(growth.whole, cpu_milliseconds(whole));
  }
  return growth;
}

std::string repeat(std::string_view unit, size_t size) {
  std::string text;
  while (text.size() < size) text += unit;
  return text.substr(0, size);
}

// The target is t(2k)/t(k) <= 2.3 on a quiet machine; a quadratic step anywhere gives 4. The figure asserted lies between.
TEST(Tokenizer, TakesLinearTimeForAnyText) {
  const auto tokenizer = make_tokenizer(vocabulary());
  for (const std::string_view unit :
       {"a", " ", "\n", "7", "ha", "'", "<", "<|im_", "中", "\xF0\x9F", "the ", " \xC2\xA0", "abcdefghijk"}) {
    const std::string half = repeat(unit, 1 << 16), whole = repeat(unit, 1 << 17);  // speed_test.cpp: 1 MiB
    const auto encode = [&](const std::string& text) {
      EXPECT_FALSE(tokenizer->encode(text, Special::parse).empty());
    };
    const Growth growth = measure_growth(3, [&] { encode(half); }, [&] { encode(whole); });
    EXPECT_LT(growth.ratio(), 3.0) << testing::PrintToString(unit) << ": " << growth.half << " ms, then "
                                   << growth.whole << " ms";
  }
}

// The negative control of the test above: work that looks at all that came before it, at each byte.
TEST(Tokenizer, TheBoundWouldCatchQuadraticTime) {
  const auto quadratic = [](const std::string& text) {
    volatile int64_t seen = 0;
    for (size_t i = 0; i < text.size(); ++i)
      for (size_t j = 0; j < i; ++j) seen = seen + text[j];
  };
  const std::string half(6000, 'a'), whole(12000, 'a');
  EXPECT_GT(measure_growth(6, [&] { quadratic(half); }, [&] { quadratic(whole); }).ratio(), 3.0);
}

}  // namespace
}  // namespace neutrino::tokenizer
