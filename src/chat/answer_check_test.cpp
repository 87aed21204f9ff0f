#include "chat/answer_check.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace neutrino::chat {
namespace {

TEST(AnswerCheck, OfAPattern) {
  const AnswerCheck check = AnswerCheck::of_pattern(R"(^\d+$)");
  EXPECT_TRUE(check.passes("42"));
  EXPECT_FALSE(check.passes("x42"));
  EXPECT_THROW(AnswerCheck::of_pattern("("), Error);
}

TEST(AnswerCheck, OfAJsonPath) {
  const AnswerCheck exists = AnswerCheck::of_path("$.a[0]", std::nullopt);
  EXPECT_TRUE(exists.passes(R"({"a":[null]})"));
  EXPECT_FALSE(exists.passes(R"({"a":[]})"));
  EXPECT_FALSE(exists.passes("a[0]"));
  const AnswerCheck equals = AnswerCheck::of_path("$.n", json::value(7));
  EXPECT_TRUE(equals.passes(R"({"n": 7})"));
  EXPECT_FALSE(equals.passes(R"({"n": 8})"));
  EXPECT_THROW(AnswerCheck::of_path("n", std::nullopt), Error);
}

TEST(AnswerCheck, OfASchemaInAnyOrderOfItsKeys) {
  const json::value schema =
      parse_json(R"({"type":"object","additionalProperties":false,"required":["a","b"],"properties":{
      "a":{"type":"integer","minimum":0},
      "b":{"type":"array","items":{"type":"object","required":["x"],"properties":{"x":{"type":"string"},"y":{"type":"null"}}}}}})");
  const AnswerCheck check = AnswerCheck::of_schema(schema, "check.schema");
  EXPECT_TRUE(check.passes(R"({"a": 3, "b": [{"x": "k"}]})"));
  EXPECT_TRUE(check.passes(R"({"b":[{"y":null,"x":"k"}],"a":3})"));
  EXPECT_FALSE(check.passes(R"({"a":-3,"b":[]})"));
  EXPECT_FALSE(check.passes(R"({"a":3})"));
  EXPECT_FALSE(check.passes(R"({"a":3,"b":[],"c":1})"));
  EXPECT_FALSE(check.passes(R"({"a":3,"b":[])"));
  EXPECT_THROW(AnswerCheck::of_schema(parse_json(R"({"type":"thing"})"), "check.schema"), Error);
}

}  // namespace
}  // namespace neutrino::chat
