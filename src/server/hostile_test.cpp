// A thousand and more hostile requests, generated from the table of routes and its fields, so that a new field is attacked the day
// it appears: no crash (the debug build watches memory), no 5xx, and a golden request answers the same after each group.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "server/routes.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;

const std::vector<std::string>& bad_values() {
  static const std::vector<std::string> values = {
      "null",
      "true",
      "false",
      "0",
      "-1",
      "1",
      "2147483648",
      "-2147483649",
      "9223372036854775807",
      "-9223372036854775808",
      "18446744073709551616",
      "1e308",
      "-1e308",
      "1e999",
      "0.1",
      "-0.0",
      "1.5",
      "\"\"",
      "\"8\"",
      "\"\\u0000\"",
      "\"\\ud800\"",
      "[]",
      "[[]]",
      "{}",
      "[null]",
      "[{}]",
      R"({"a":{"b":[1,2,{"c":null}]}})",
      "[-1]",
      "[1e999]",
      "[\"\"]",
      R"({"":""})",
      "[" + std::string(100, '[') + std::string(100, ']') + "]",
      "\"" + std::string(100'000, 'a') + "\"",
  };
  return values;
}

// A good body for each route with one, as a list of its fields.
std::map<std::string, std::string> good_fields(std::string_view path) {
  if (path == "/v1/chat/completions")
    return {{"model", R"("fake")"}, {"messages", R"([{"role":"user","content":"Hi"}])"}, {"max_tokens", "4"}};
  if (path.starts_with("/v1/messages")) {
    std::map<std::string, std::string> fields = {{"model", R"("fake")"},
                                                 {"messages", R"([{"role":"user","content":"Hi"}])"}};
    if (path == "/v1/messages") fields["max_tokens"] = "4";
    return fields;
  }
  if (path == "/v1/responses")
    return {{"model", R"("fake")"}, {"input", R"("Hi")"}, {"max_output_tokens", "4"}};
  if (path.ends_with("/rerank"))
    return {{"model", R"("fake")"}, {"query", R"("q")"}, {"documents", R"(["a"])"}};
  if (path.ends_with("/score")) return {{"model", R"("fake")"}, {"text_1", R"("a")"}, {"text_2", R"("b")"}};
  if (path == "/v1/completions") return {{"model", R"("fake")"}, {"prompt", R"("Hi")"}};
  if (path == "/tokenize") return {{"prompt", R"("Hi")"}};
  return {{"tokens", "[72]"}};
}

std::string body_with(std::map<std::string, std::string> fields, const std::string& name,
                      const std::string& value) {
  fields[name] = value;
  std::string body = "{";
  for (const auto& [key, text] : fields) body += (body.size() > 1 ? ",\"" : "\"") + key + "\":" + text;
  return body + "}";
}

std::vector<std::string> broken_bodies() {
  std::vector<std::string> bodies = {"",
                                     "{",
                                     "}",
                                     "[",
                                     "null",
                                     "\"x\"",
                                     "1",
                                     "{}{}",
                                     "{\"model\":}",
                                     "{'model':'x'}",
                                     "{\"a\":1,}",
                                     "\xEF\xBB\xBF{}",
                                     "{\"a\":\"\xFF\"}",
                                     "{\"a\":\"\xC0\xAF\"}",
                                     "{\"a\":\"\xED\xA0\x80\"}",
                                     "{\"\xFF\":1}",
                                     std::string("{\"a\":\"\0\"}", 9),
                                     "{\"a\":1e}",
                                     "{\"a\":--1}",
                                     "{\"a\":Infinity}",
                                     "{\"a\":0x10}",
                                     "/* c */{}",
                                     "{\"a\":\"\\x\"}",
                                     "{\"a\":\"\\ud800\\ud800\"}"};
  for (const int64_t depth : {10, 255, 256, 257, 10'000, 1'000'000}) {
    const auto size = static_cast<size_t>(depth);
    bodies.push_back(std::string(size, '['));
    bodies.push_back(std::string(size, '[') + std::string(size, ']'));
    std::string objects;
    for (size_t i = 0; i < size; ++i) objects += "{\"a\":";
    bodies.push_back(objects);
  }
  bodies.push_back("{\"a\":[" + std::string(1'500'000, '0') + "]}");
  std::string values = "{\"a\":[0";
  for (int i = 0; i < 1'100'000; ++i) values += ",0";
  bodies.push_back(values + "]}");
  bodies.push_back("{\"" + std::string(2'000'000, 'k') + "\":1}");
  bodies.push_back("{\"a\":" + std::string(5000, '9') + "}");
  bodies.push_back("{\"a\":0." + std::string(100'000, '3') + "e-9}");
  std::string same_keys = "{\"k\":1";
  for (int i = 0; i < 10'000; ++i) same_keys += ",\"k\":1";
  bodies.push_back(same_keys + "}");
  return bodies;
}

// Larger shapes of the fields that are lists.
std::vector<std::pair<std::string, std::string>> large_values() {
  std::string messages = "[", stop = "[", tools = "[", bias = "{", prompts = "[";
  for (int i = 0; i < 5000; ++i) {
    const std::string comma = i ? "," : "";
    messages += comma + R"({"role":"user","content":"x"})";
    stop += comma + "\"s\"";
    tools += comma + R"({"type":"function","function":{"name":"f"}})";
    bias += fmt::format("{}\"{}\":1", comma, i);
    prompts += comma + "\"p\"";
  }
  return {{"messages", messages + "]"},
          {"stop", stop + "]"},
          {"tools", tools + "]"},
          {"logit_bias", bias + "}"},
          {"prompt", prompts + "]"},
          {"prompt", "\"" + std::string(3'000'000, 'x') + "\""},
          {"stop", "\"" + std::string(1025, 's') + "\""},
          {"tools", R"([{"type":"function","function":{"name":"f","parameters":)" + std::string(200, '[') +
                        std::string(200, ']') + "}}]"}};
}

class Attack {
 public:
  Attack() : golden_(answer()) {}

  void send(std::string_view path, const std::string& body) {
    const Reply reply = replica_.post(path, body);
    ++sent_;
    ++by_status_[reply.status];
    EXPECT_GE(reply.status, 200) << path << " " << body.substr(0, 200);
    EXPECT_LT(reply.status, 500) << path << " " << body.substr(0, 200) << reply.body.substr(0, 200);
    if (reply.status == 200) return;
    EXPECT_LT(reply.body.size(), 4000U) << body.substr(0, 200);
    EXPECT_THAT(reply.body, ::testing::Not(::testing::ContainsRegex("0x[0-9a-f]{6,}")));
    const json::value answer = parse_json(reply.body);  // in OpenAI's shape or Anthropic's
    answer.at("error").at(answer.as_object().contains("type") ? "type" : "code");
  }
  void end_group() { EXPECT_EQ(answer(), golden_); }
  int sent() const { return sent_; }
  int refused() const { return sent_ - (by_status_.contains(200) ? by_status_.at(200) : 0); }

 private:
  std::string answer() {
    json::value body = parse_json(replica_.post("/v1/chat/completions", chat_body()).body);
    body.as_object().erase("id");
    body.as_object().erase("created");
    return to_text(body);
  }
  TestReplica replica_;
  std::string golden_;
  int sent_ = 0;
  std::map<int, int> by_status_;
};

TEST(Hostile, EachFieldTimesEachBadValue) {
  Attack attack;
  for (const ServerRoute& route : route_table()) {
    if (route.spec.fields.empty()) continue;
    for (const net::Field& field : route.spec.fields) {
      for (const std::string& value : bad_values())
        attack.send(route.spec.path, body_with(good_fields(route.spec.path), std::string(field.name), value));
    }
    attack.end_group();
  }
  EXPECT_GE(attack.sent(), 1000);
  EXPECT_GE(attack.refused(), attack.sent() / 2);
}

TEST(Hostile, BrokenAndEnormousBodies) {
  Attack attack;
  const std::vector<std::string> broken = broken_bodies();
  for (const ServerRoute& route : route_table()) {
    if (route.spec.fields.empty()) continue;
    for (const std::string& body : broken) attack.send(route.spec.path, body);
    for (const auto& [name, value] : large_values())
      attack.send(route.spec.path, body_with(good_fields(route.spec.path), name, value));
    attack.end_group();
  }
  EXPECT_GE(attack.refused(), attack.sent() / 2);
}

TEST(Hostile, EveryRouteTimesOddHeadersAndPaths) {
  TestReplica replica;
  const std::string headers[] = {
      "Content-Type: application/json; charset=\xFF\r\n",
      "Authorization: Bearer " + std::string(60000, 'x') + "\r\n",
      "Authorization: \r\n",
      "X-Request-Id: " + std::string(5000, 'a') + "\r\n",
      "X-Request-Id: a\tb\xFF\r\n",
      "Accept-Encoding: gzip\r\nRange: bytes=0-1\r\n",
      "Expect: everything\r\n",
      "Connection: keep-alive, close, upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\n"};
  for (const ServerRoute& route : route_table()) {
    for (const std::string& header : headers) {
      const std::string method(net::method_name(route.spec.method));
      const Reply reply = net::testing::ask(
          replica.port(), fmt::format("{} {} HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 0\r\n\r\n",
                                      method, route.spec.path, header));
      EXPECT_GE(reply.status, 200) << header.substr(0, 100);
      EXPECT_LT(reply.status, 500) << header.substr(0, 100);
    }
    for (const std::string_view suffix :
         {"/", "?a=b", "?", "%00", "/../..", "//", "/%2e%2e/", "#x", ";v=1"}) {
      const Reply reply = replica.get(std::string(route.spec.path) + std::string(suffix));
      EXPECT_GE(reply.status, 200) << suffix;
      EXPECT_LT(reply.status, 500) << suffix;
    }
  }
}

}  // namespace
}  // namespace neutrino::server::testing
