#include "net/schema.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "net/error_body.h"

namespace neutrino::net {
namespace {

constexpr auto kFields = std::to_array<Field>({
    {.name = "name", .types = kString, .required = true},
    {.name = "count", .types = kInteger, .minimum = 1, .maximum = 8},
    {.name = "share", .types = kNumber, .minimum = 0, .maximum = 1, .above_minimum = true},
    {.name = "any_integer", .types = kInteger},
    {.name = "list", .types = kString | kArray},
    {.name = "quiet", .support = Support::reported},
    {.name = "format", .support = Support::unsupported, .neutral = R"([{"type":"text"}, false])"},
});

struct Outcome {
  std::string reason, param;
  std::vector<std::string> ignored = {};
};

Outcome parse(std::string_view body) {
  Outcome outcome;
  try {
    parse_body(body, kFields, outcome.ignored);
  } catch (const Error& error) {
    EXPECT_EQ(http_status(error), 400);
    outcome.reason = error.reason();
    outcome.param = error.param();
  }
  return outcome;
}

TEST(Schema, ChecksTypesRangesAndWhatIsNotBuilt) {
  const struct {
    std::string_view body, reason, param;
  } cases[] = {
      {R"({"name":"a"})", "", ""},
      {R"({"name":"a","count":8,"share":1,"list":[]})", "", ""},
      {R"({"name":"a","count":2.0})", "", ""},
      {R"({"name":"a","count":null,"share":null,"format":null})", "", ""},
      {R"({"name":"a","any_integer":-9223372036854775808})", "", ""},
      {R"({"name":"a","format":{"type":"text"}})", "", ""},
      {R"({"name":"a","format":false})", "", ""},
      {R"({})", "missing_required_parameter", "name"},
      {R"({"name":null})", "missing_required_parameter", "name"},
      {R"({"name":1})", "invalid_type", "name"},
      {R"({"name":"a","count":"8"})", "invalid_type", "count"},
      {R"({"name":"a","count":true})", "invalid_type", "count"},
      {R"({"name":"a","count":1.5})", "invalid_value", "count"},
      {R"({"name":"a","count":0})", "invalid_value", "count"},
      {R"({"name":"a","count":9})", "invalid_value", "count"},
      {R"({"name":"a","count":1e308})", "invalid_value", "count"},
      {R"({"name":"a","any_integer":18446744073709551615})", "invalid_value", "any_integer"},
      {R"({"name":"a","any_integer":9223372036854775808})", "invalid_value", "any_integer"},
      {R"({"name":"a","any_integer":-9223372036854775809})", "invalid_value", "any_integer"},
      {R"({"name":"a","share":0})", "invalid_value", "share"},
      {R"({"name":"a","share":1.0001})", "invalid_value", "share"},
      {R"({"name":"a","share":1e999})", "invalid_value", "share"},
      {R"({"name":"a","share":-1e999})", "invalid_value", "share"},
      {R"({"name":"a","share":NaN})", "invalid_json", ""},
      {R"({"name":"a","format":{"type":"json"}})", "unsupported_parameter", "format"},
      {R"({"name":"a","name":"b"})", "invalid_json", ""},
      {R"([])", "invalid_type", ""},
      {"", "invalid_json", ""},
      {"{\"name\":\"\xFF\"}", "invalid_json", ""},
  };
  for (const auto& [body, reason, param] : cases) {
    const Outcome outcome = parse(body);
    EXPECT_EQ(outcome.reason, reason) << body;
    EXPECT_EQ(outcome.param, param) << body;
  }
}

TEST(Schema, ReportsWhatHasNoEffect) {
  EXPECT_EQ(parse(R"({"name":"a","quiet":1,"invented":{},"nothing":null})").ignored,
            (std::vector<std::string>{"quiet", "invented", "nothing"}));
}

TEST(Schema, BecomesJsonSchema) {
  const json::object schema = json_schema(kFields);
  const json::object& properties = schema.at("properties").as_object();
  EXPECT_EQ(schema.at("required"), json::value({"name"}));
  EXPECT_EQ(properties.at("name").at("type"), "string");
  EXPECT_EQ(properties.at("count").at("type"), json::value({"integer", "null"}));
  EXPECT_EQ(properties.at("count").at("maximum"), 8.0);
  EXPECT_EQ(properties.at("share").at("exclusiveMinimum"), 0.0);
  EXPECT_FALSE(properties.contains("format"));
}

TEST(ErrorBody, HasAllKeysAndNoSecrets) {
  const json::value ours =
      parse_json(error_body(Error(ErrorCode::internal, "open /root/.secret at 0x7fffdeadbeef"), "req-1"))
          .at("error");
  for (const std::string_view key : {"message", "type", "param", "code", "request_id"})
    EXPECT_TRUE(ours.as_object().contains(key)) << key;
  EXPECT_EQ(ours.at("message").as_string().find("secret"), json::string::npos);
  EXPECT_EQ(ours.at("code"), "internal_error");
  const json::value theirs =
      parse_json(
          error_body(Error(ErrorCode::invalid_argument, "no").with_param("messages[3].content"), "req-2"))
          .at("error");
  EXPECT_EQ(theirs.at("param"), "messages[3].content");
  EXPECT_EQ(theirs.at("type"), "invalid_request_error");
}

TEST(ErrorBody, IsBoundedWithoutSplittingACharacter) {
  std::string long_text;
  for (int i = 0; i < 5000; ++i) long_text += "é";
  const json::value body =
      parse_json(error_body(Error(ErrorCode::invalid_argument, "x" + long_text), "req-1"));
  EXPECT_LE(body.at("error").at("message").as_string().size(), 2048U);
}

TEST(HttpStatus, FollowsReasonThenCode) {
  EXPECT_EQ(http_status(Error(ErrorCode::permission_denied, "").with_reason("host_not_allowed")), 421);
  EXPECT_EQ(http_status(Error(ErrorCode::permission_denied, "")), 403);
  EXPECT_EQ(http_status(Error(ErrorCode::resource_exhausted, "").with_reason("queue_full")), 429);
  EXPECT_EQ(http_status(Error(ErrorCode::unavailable, "").with_reason("engine_dead")), 503);
  EXPECT_EQ(http_status(Error(ErrorCode::not_found, "").with_reason("model_not_found")), 404);
  EXPECT_EQ(http_status(Error(ErrorCode::unimplemented, "")), 400);
}

}  // namespace
}  // namespace neutrino::net
