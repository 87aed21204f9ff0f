#include "cloud/request_body.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "base/json.h"

namespace neutrino::cloud {
namespace {

TEST(RequestBody, FindsTheOutermostMembers) {
  const std::string text =
      R"( {"model" : "a\"b", "messages":[{"model":"inner","x":"]}"}],"n":3,"stream":true, "m\u0061x_tokens":-5,"e":{} } )";
  const RequestBody body(text);
  EXPECT_EQ(body.text("model"), "a\"b");
  EXPECT_EQ(body.raw("messages"), R"([{"model":"inner","x":"]}"}])");
  EXPECT_EQ(body.integer("n"), 3);
  EXPECT_EQ(body.integer("max_tokens"), -5);  // its name is escaped
  EXPECT_EQ(body.integer("model"), std::nullopt);
  EXPECT_EQ(body.integer("absent"), std::nullopt);
  EXPECT_TRUE(body.is_true("stream"));
  EXPECT_EQ(body.raw("e"), "{}");
  EXPECT_EQ(body.text("n"), "");
}

TEST(RequestBody, ChangesNothingElse) {
  const RequestBody body(R"({"a": 1.50, "model":"x",  "z":[1 , 2]})");
  EXPECT_EQ(body.with({{"model", "\"y\""}}), R"({"a": 1.50, "model":"y",  "z":[1 , 2]})");
  EXPECT_EQ(body.with({{"z", "0"}, {"a", "9"}}), R"({"a": 9, "model":"x",  "z":0})");
  EXPECT_EQ(body.with({{"new", "true"}}), R"({"new":true,"a": 1.50, "model":"x",  "z":[1 , 2]})");
  EXPECT_EQ(RequestBody("{}").with({{"new", "1"}}), R"({"new":1})");
  EXPECT_EQ(body.with({}), R"({"a": 1.50, "model":"x",  "z":[1 , 2]})");
}

TEST(RequestBody, WhatIsNotOneObjectIsRefused) {
  for (const char* text : {"",
                           " ",
                           "[]",
                           "1",
                           "{",
                           "{\"a\"",
                           "{\"a\":",
                           "{\"a\":}",
                           "{\"a\":1",
                           "{\"a\":1,",
                           "{\"a\":1,}",
                           "{\"a\" 1}",
                           "{a:1}",
                           "{\"a\":1}x",
                           "{\"a\":1}{}",
                           "{\"a\":\"",
                           "{\"a\":\"\\",
                           "{\"a\":\"\\\"}",
                           "{\"a\":[}",
                           "{\"a\":[1,{]}]}",
                           "{\"a\":{\"b\":1}",
                           "{\"a\":1 \"b\":2}",
                           "{\"model\":\"x\",\"model\":\"y\"}",
                           "{\"model\":\"x\",\"mod\\u0065l\":\"y\"}",
                           "{\"\\q\":1}"})
    EXPECT_THROW(RequestBody body(text), Error) << text;
  EXPECT_THROW(RequestBody body("{\"a\":" + std::string(100'000, '[') + "}"), Error);
}

// What is taken is JSON with the same members to a whole parser, whatever is done to the text.
TEST(RequestBody, AgreesWithTheParser) {
  const std::string seed =
      R"({"model":"m\n","messages":[{"role":"user","content":"a\\\"}{"}],"n":1,"o":{"p":[[],{}]}})";
  int agreed = 0, refused = 0;
  for (size_t at = 0; at < seed.size(); ++at)
    for (const char c : {'"', '\\', '{', '}', '[', ']', ',', ':', ' ', '0', 'x', '\0'}) {
      std::string text = seed;
      text[at] = c;
      json::value whole;
      try {
        whole = parse_json(text);
      } catch (const Error&) {
        ++refused;
        continue;
      }
      ASSERT_TRUE(whole.is_object()) << text;
      const RequestBody body(text);  // takes all that a parser takes
      for (const auto& member : whole.as_object()) {
        ASSERT_EQ(parse_json(body.raw(member.key())), member.value()) << text;
        const std::string expected = member.value().is_string() ? member.value().as_string().c_str() : "";
        ASSERT_STREQ(body.text(member.key()).c_str(), expected.c_str());
      }
      ++agreed;
    }
  EXPECT_GT(agreed, 200);
  EXPECT_GT(refused, 200);
}

}  // namespace
}  // namespace neutrino::cloud
