#include "text/constraints.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "text/grammar_cache.h"
#include "text/testing/byte_vocabulary.h"

namespace neutrino::text {
namespace {

using ::testing::HasSubstr;
using namespace testing;

constexpr const char* kPerson =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":5},"age":{"type":"integer","minimum":0,"maximum":9}},
        "required":["name","age"],"additionalProperties":false})";

TEST(Constraints, AcceptWhatTheyDescribeAndNothingElse) {
  const Grammar person = compile(GrammarKind::json_schema, kPerson);
  EXPECT_TRUE(accepts(person, R"({"name":"Ada","age":7})"));
  EXPECT_TRUE(accepts(person, R"({"name": "Ada", "age": 7})"));
  EXPECT_FALSE(accepts(person, R"({"name":"Ada"})"));
  EXPECT_FALSE(accepts(person, R"({"age":7,"name":"Ada"})"));  // the order is the schema's
  EXPECT_FALSE(accepts(person, R"({"name":"Ada","age":10})"));
  EXPECT_FALSE(accepts(person, R"({"name":"Ada Lovelace","age":7})"));
  EXPECT_FALSE(accepts(person, R"({"name":"Ada","age":7)"));
  EXPECT_TRUE(accepts(GrammarKind::json_object, "", R"({"a":[1,{"b":null}]})"));
  EXPECT_FALSE(accepts(GrammarKind::json_object, "", "[1]"));
  EXPECT_TRUE(accepts(GrammarKind::regex, "[a-c]+\\d", "abc1"));
  EXPECT_TRUE(accepts(GrammarKind::regex, "^[a-c]+\\d$", "abc1"));
  EXPECT_FALSE(accepts(GrammarKind::regex, "[a-c]+\\d", "xabc1"));
  EXPECT_FALSE(accepts(GrammarKind::regex, "[a-c]+\\d", "abc1x"));
  EXPECT_TRUE(accepts(GrammarKind::choice, R"(["yes","no","y\"\\\u007f\n"])", "no"));
  EXPECT_TRUE(accepts(GrammarKind::choice, R"(["yes","no","y\"\\\u007f\n"])", "y\"\\\x7f\n"));
  EXPECT_FALSE(accepts(GrammarKind::choice, R"(["yes","no"])", "maybe"));
  EXPECT_TRUE(accepts(GrammarKind::lark, "start: \"(\" start \")\" | /[a-z]/", "((q))"));
  EXPECT_FALSE(accepts(GrammarKind::lark, "start: \"(\" start \")\" | /[a-z]/", "((q)"));
}

TEST(Constraints, WhiteSpaceIsBounded) {
  const Grammar person = compile(GrammarKind::json_schema, kPerson);
  EXPECT_TRUE(accepts(person, "{\n  \"name\": \"A\",\n  \"age\": 7\n}"));
  EXPECT_TRUE(accepts(person, "{\n\t\t\"name\": \"A\",\n\t\t\"age\": 7\n}"));
  EXPECT_FALSE(accepts(person, "{  \"name\": \"A\", \"age\": 7}"));
  EXPECT_FALSE(accepts(person, "{\n\n\"name\": \"A\", \"age\": 7}"));
  EXPECT_FALSE(accepts(person, "{\n" + std::string(21, ' ') + "\"name\": \"A\", \"age\": 7}"));
}

TEST(Constraints, ForceTheTokensOfTheTokenizer) {
  GrammarMatcher matcher(compile(GrammarKind::json_schema,
                                 R"({"type":"object","properties":{"name":{"const":"x"}},"required":["name"],
                                     "additionalProperties":false})"));
  std::vector<int32_t> forced(64);
  EXPECT_TRUE(may_come(matcher, '{'));
  EXPECT_FALSE(may_come(matcher, '['));
  EXPECT_FALSE(may_come(matcher, kEnd));
  EXPECT_EQ(matcher.take_forced(forced), 1);  // white space may follow, or not
  EXPECT_EQ(forced[0], '{');
  EXPECT_TRUE(may_come(matcher, kName));
  EXPECT_TRUE(may_come(matcher, '\n'));
  EXPECT_TRUE(matcher.consume(kName));
  for (const char c : std::string_view(":\"x\"}")) EXPECT_TRUE(matcher.consume(c)) << c;
  EXPECT_TRUE(matcher.is_accepting());
  EXPECT_TRUE(matcher.is_complete());
  EXPECT_TRUE(may_come(matcher, kEnd));
  EXPECT_FALSE(may_come(matcher, kOtherEnd));  // one of them, so that it is forced
  EXPECT_EQ(matcher.take_forced(forced), 1);
  EXPECT_EQ(forced[0], kEnd);
  EXPECT_EQ(matcher.take_forced(forced), 0);
}

TEST(Constraints, WithoutATokenizerNothingIsForced) {
  VocabularyTokens tokens = byte_tokens();
  tokens.encode = nullptr;
  const GrammarVocabulary plain(std::move(tokens));
  EXPECT_FALSE(plain.forces_tokens());
  EXPECT_TRUE(vocabulary().forces_tokens());
  GrammarMatcher matcher(Grammar(plain, {.kind = GrammarKind::choice, .text = R"(["\"name\""])"}));
  std::vector<int32_t> forced(64);
  EXPECT_EQ(matcher.take_forced(forced), 0);
  EXPECT_TRUE(may_come(matcher, kName));
  EXPECT_TRUE(may_come(matcher, '"'));
}

TEST(Constraints, RollBack) {
  const Grammar grammar = compile(GrammarKind::regex, "ab?c");
  GrammarMatcher matcher(grammar);
  for (const char c : std::string_view("abc")) ASSERT_TRUE(matcher.consume(c));
  ASSERT_TRUE(matcher.is_complete());
  ASSERT_TRUE(matcher.consume(kEnd));
  EXPECT_TRUE(matcher.rollback(3));  // of: b, c, end
  EXPECT_FALSE(matcher.is_accepting());
  EXPECT_TRUE(may_come(matcher, 'b'));
  EXPECT_TRUE(matcher.consume('c'));
  EXPECT_TRUE(matcher.is_accepting());
  EXPECT_FALSE(matcher.consume('c'));
  EXPECT_TRUE(matcher.failed());
  EXPECT_THAT(matcher.error(), HasSubstr("behind the end"));
}

// What a generation may write at each step, on a way that its seed chooses.
std::vector<std::vector<uint64_t>> walk(const Grammar& grammar, uint64_t seed) {
  GrammarMatcher matcher(grammar);
  Random random(seed);
  std::vector<std::vector<uint64_t>> masks;
  while (!matcher.is_complete() && masks.size() < 60) {
    auto& mask = masks.emplace_back(static_cast<size_t>(vocabulary().mask_words()));
    EXPECT_TRUE(matcher.fill_mask(mask)) << matcher.error();
    std::vector<int32_t> allowed;
    for (int32_t token = 0; token < kName + 1; ++token)
      if (mask[static_cast<size_t>(token / 64)] >> (token % 64) & 1) allowed.push_back(token);
    EXPECT_FALSE(allowed.empty());
    EXPECT_TRUE(matcher.consume(allowed[static_cast<size_t>(random.below(std::ssize(allowed)))]));
  }
  return masks;
}

constexpr const char* kBounded =
    R"({"type":"array","items":{"type":"string","minLength":2,"maxLength":9},"minItems":3,"maxItems":5})";

TEST(Constraints, GenerationsShareAGrammarOnAnyThreads) {
  const Grammar shared = compile(GrammarKind::json_schema, kBounded);
  std::vector<std::vector<std::vector<uint64_t>>> found(8);
  std::vector<std::thread> threads;
  for (size_t i = 0; i < found.size(); ++i) threads.emplace_back([&, i] { found[i] = walk(shared, i); });
  for (std::thread& thread : threads) thread.join();
  for (size_t i = 0; i < found.size(); ++i)
    EXPECT_EQ(found[i], walk(compile(GrammarKind::json_schema, kBounded), i)) << i;
}

TEST(Constraints, AGenerationThatFailsHarmsNoneOfTheSameGrammar) {
  const Grammar person = compile(GrammarKind::json_schema, kPerson);
  GrammarMatcher good(person), bad(person);
  for (const char c : std::string_view(R"({"name":"A)")) {
    ASSERT_TRUE(good.consume(c));
    ASSERT_TRUE(bad.consume(c));
  }
  EXPECT_FALSE(bad.consume('\x01'));
  EXPECT_TRUE(bad.failed());
  GrammarMatcher later(person);
  for (const char c : std::string_view(R"(da","age":7})")) {
    ASSERT_TRUE(may_come(good, c)) << c;
    ASSERT_TRUE(good.consume(c)) << c;
  }
  EXPECT_TRUE(good.is_accepting());
  EXPECT_TRUE(accepts(person, R"({"name":"Ada","age":7})"));
  EXPECT_TRUE(may_come(later, '{'));
}

// Some 250 of these walks use up the states that generations share (limits::kGrammarSharedWork): nobody notices.
TEST(Constraints, SharedStatesThatAreUsedUpAreReplaced) {
  const Grammar wide = compile(GrammarKind::regex, "([a-h]*[ab][a-h]{14}|[a-h]*[cd][a-h]{13}){1,40}");
  for (uint64_t seed = 0; seed < 600; ++seed) walk(wide, seed);
  const Grammar fresh = compile(GrammarKind::regex, "([a-h]*[ab][a-h]{14}|[a-h]*[cd][a-h]{13}){1,40}");
  EXPECT_EQ(walk(wide, 100), walk(fresh, 100));
}

TEST(Constraints, SpecialTokensAreNoText) {
  const Grammar text = compile(GrammarKind::regex, "[^a]*");
  GrammarMatcher matcher(text);
  EXPECT_FALSE(may_come(matcher, kTool));
  EXPECT_TRUE(may_come(matcher, '<'));
  EXPECT_TRUE(may_come(matcher, kEnd));
  EXPECT_TRUE(may_come(matcher, kOtherEnd));
  GrammarMatcher tool(compile(GrammarKind::lark, "start: <|tool|> /[a-z]/"));
  EXPECT_TRUE(may_come(tool, kTool));
  EXPECT_FALSE(may_come(tool, '<'));
  EXPECT_TRUE(tool.consume(kTool));
  EXPECT_TRUE(tool.consume('q'));
  EXPECT_TRUE(tool.is_complete());
}

TEST(Constraints, ErrorsSayWhatAndWhere) {
  EXPECT_EQ(error_of(GrammarKind::json_schema, "{")->reason(), "invalid_json_schema");
  EXPECT_EQ(error_of(GrammarKind::regex, "(")->reason(), "invalid_grammar");
  EXPECT_EQ(error_of(GrammarKind::lark, "start: nothing")->reason(), "invalid_grammar");
  EXPECT_EQ(error_of(GrammarKind::choice, "[]")->param(), "field");
  EXPECT_THAT(error_of(GrammarKind::regex, "\xff")->message(), HasSubstr("UTF-8"));
}

TEST(GrammarCache, KeepsTheOnesUsedLast) {
  GrammarCache cache(byte_tokens, {.entries_max = 2});
  const auto choice = [](const char* text) { return GrammarSpec{.kind = GrammarKind::choice, .text = text}; };
  const auto first = cache.get(choice(R"(["a"])"));
  EXPECT_EQ(cache.get(choice(R"(["a"])")), first);
  const auto second = cache.get(choice(R"(["b"])"));
  EXPECT_EQ(cache.get({.kind = GrammarKind::choice, .text = R"(["a"])", .param = "other"}), first);
  cache.get(choice(R"(["c"])"));  // in place of the second, which was used longer ago
  EXPECT_EQ(cache.get(choice(R"(["a"])")), first);
  EXPECT_NE(cache.get(choice(R"(["b"])")), second);
  EXPECT_NE(cache.get({.kind = GrammarKind::regex, .text = R"(["b"])"}), second);
  EXPECT_THROW(cache.get(choice("[]")), Error);
  EXPECT_EQ(cache.counts().entries, 2);
  EXPECT_EQ(cache.counts().hits, 3);
  EXPECT_EQ(GrammarMatcher(*first).error(), "");
}

}  // namespace
}  // namespace neutrino::text
