// YAML as JSON with places, back again, and what differs between two values.
#include "cli/terminal/yaml.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/random.h"
#include "cli/terminal/diff.h"

namespace neutrino::cli {
namespace {

std::string as_json(const std::string& yaml) {
  std::string text;
  for (const YamlDocument& document : parse_yaml(yaml, "f")) text += to_text(document.value);
  return text;
}

std::string error_of(const std::string& yaml) {
  try {
    parse_yaml(yaml, "f");
  } catch (const Error& error) {
    return error.message();
  }
  return "nothing was thrown";
}

TEST(Yaml, means_what_version_1_2_says) {
  const struct {
    const char *yaml, *json;
  } cases[] = {
      {"a: 1\nb: -2\nc: +3", R"({"a":1,"b":-2,"c":3})"},
      {"a: 1.5\nb: 1e3\nc: .5", R"({"a":1.5,"b":1000.0,"c":0.5})"},
      {"a: true\nb: False\nc: yes\nd: on", R"({"a":true,"b":false,"c":"yes","d":"on"})"},
      {"a: null\nb: ~\nc:\nd: ''", R"({"a":null,"b":null,"c":null,"d":""})"},
      {"a: \"1\"\nb: 'true'\nc: !!str 1", R"({"a":"1","b":"true","c":"1"})"},
      {"a: 012\nb: 1.2.3\nc: 0x10\nd: 1_000\ne: 12:30",
       R"({"a":"012","b":"1.2.3","c":"0x10","d":"1_000","e":"12:30"})"},
      {"- a\n- [b, {c: d}]", R"(["a",["b",{"c":"d"}]])"},
      {"a: &x [1]\nb: *x", R"({"a":[1],"b":[1]})"},
      {"a: |\n  two\n  lines\n", R"({"a":"two\nlines\n"})"},
      {"a: 1\n---\n---\nb: 2\n", R"({"a":1}{"b":2})"},
      {"", ""},
      {"# nothing\n", ""},
      {"a: 9223372036854775807\nb: 9223372036854775808",
       R"({"a":9223372036854775807,"b":9.223372036854776e+18})"},
  };
  for (const auto& [yaml, json] : cases) EXPECT_EQ(as_json(yaml), json) << yaml;
}

TEST(Yaml, errors_say_where) {
  const struct {
    const char *yaml, *message;
  } cases[] = {
      {"a: 1\nb: [1, 2\nc: 3", "f:3:"},
      {"a: 1\n b: 2", "f:2:"},
      {"a: 1\nb: 2\na: 3", "f:3:1: a is there twice"},
      {"a:\n  ? [x]\n  : 1", "f:2:5: a key must be a text"},
      {"a: *nowhere", "f:1:"},
      {"a: !secret x", "f:1:4: the tag !secret is not known"},
      {"a: \"\\q\"", "f:1:"},
      {"a: &x [*x]", "f:"},
  };
  for (const auto& [yaml, message] : cases)
    EXPECT_THAT(error_of(yaml), ::testing::StartsWith(message)) << yaml;
}

TEST(Yaml, has_limits) {
  EXPECT_THAT(error_of(std::string(100, '[') + std::string(100, ']')), ::testing::HasSubstr("deep"));
  std::string bomb = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n";
  for (int i = 1; i < 9; ++i) {
    const std::string one = fmt::format("*a{}", i - 1);
    bomb += fmt::format("a{0}: &a{0} [{1}, {1}, {1}, {1}, {1}, {1}, {1}, {1}, {1}, {1}]\n", i, one);
  }
  EXPECT_THAT(error_of(bomb), ::testing::HasSubstr("values"));
}

TEST(Yaml, knows_the_place_of_each_field) {
  const YamlDocument document =
      parse_yaml("---\nname: chat\n---\nname: code\nlist:\n  - weight: 1\n  - weight: 2\n", "f").at(1);
  const auto place = [&](std::string_view path) { return place_text("f", document.position_of(path)); };
  EXPECT_EQ(place("name"), "f:4:1: ");
  EXPECT_EQ(place("list[1].weight"), "f:7:5: ");
  EXPECT_EQ(place("list[1].weight.deeper"), "f:7:5: ");
  EXPECT_EQ(place("list[9].x"), "f:5:1: ");
  EXPECT_EQ(place("nonesuch"), "f:4:1: ");
}

json::value random_value(Random& random, int depth) {
  static const char* const texts[] = {
      "",    "plain", "two words", "true", "12",  "1.5",  "~",  "null", "- x", "a: b", "# no",  "a\nb", "é",
      " x",  "x ",    "@a",        "{x}",  "[x]", "*x",   "&x", "!x",   "%x",  "'x'",  "\"x\"", "0x1",  "-",
      "---", "\\",    "012",       "x:",   "yes", "a #b", "\t", "1e3",  "+1",  ".5",   "."};
  const int64_t kind = random.below(depth > 0 ? 7 : 5);
  if (kind == 0) return nullptr;
  if (kind == 1) return random.chance(0.5);
  if (kind == 2) return random.between(-1000, 1000);
  if (kind == 3) return static_cast<double>(random.between(-8, 8)) / 4;
  if (kind == 4) return json::string(texts[random.below(std::ssize(texts))]);
  if (kind == 5) {
    json::array array;
    for (int64_t i = random.below(4); i > 0; --i) array.push_back(random_value(random, depth - 1));
    return array;
  }
  json::object object;
  for (int64_t i = random.below(4); i > 0; --i)
    object[texts[random.below(std::ssize(texts))]] = random_value(random, depth - 1);
  return object;
}

TEST(Yaml, what_is_written_is_read_back) {
  Random random(7);
  for (int round = 0; round < 500; ++round) {
    const json::value value = json::object{{"x", random_value(random, 4)}};
    const std::string text = to_yaml(value);
    ASSERT_EQ(as_json(text), to_text(value)) << text;
  }
  EXPECT_EQ(to_yaml(parse_json(R"({"kind":"Endpoint","scaling":{"max":2},"list":[{"a":1,"b":[]},"x"]})")),
            "kind: Endpoint\nscaling:\n  max: 2\nlist:\n  - a: 1\n    b: []\n  - x\n");
}

TEST(Diff, names_each_field) {
  const auto diff = [](const char* from, const char* to) {
    return text_of(differences(parse_json(from), parse_json(to)), {});
  };
  EXPECT_EQ(diff(R"({"a":1,"b":{"c":2}})", R"({"b":{"c":2},"a":1})"), "");
  EXPECT_EQ(diff(R"({"a":1,"b":{"c":2,"d":3}})", R"({"a":"1","b":{"c":2,"d":null},"e":[]})"),
            "    a: 1 -> \"1\"\n    b.d: 3 -> null\n    e: null -> []\n");
  EXPECT_EQ(diff("[1,2]", "[1,3,4]"), "    [1]: 2 -> 3\n    [2]: null -> 4\n");
  EXPECT_EQ(diff(R"({"l":[{"name":"x","w":1},{"name":"y"}]})", R"({"l":[{"name":"z"},{"name":"x","w":2}]})"),
            "    l[x].w: 1 -> 2\n    l[y]: {\"name\":\"y\"} -> null\n    l[z]: null -> {\"name\":\"z\"}\n");
}

}  // namespace
}  // namespace neutrino::cli
