// What a request leaves behind: spans, and tokens of its key's limit.
#include "server/tracing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/sha256.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using chat::testing::Script;
using net::testing::RawClient;
using net::testing::Reply;
using std::chrono::milliseconds;

constexpr std::string_view kChat = "/v1/chat/completions";

// ---- tokens per minute

ReplicaOptions limited(int64_t tokens_per_minute) {
  ReplicaOptions options;
  options.http.keys.add("app", "app-key", net::kAllScopes, {.tokens_per_minute = tokens_per_minute});
  return options;
}

Reply ask(const TestReplica& replica, std::string_view more) {
  return replica.post(kChat, chat_body(more), "x-api-key: app-key\r\n");
}

int64_t left(const Reply& reply) { return std::stoll(reply.headers.at("x-ratelimit-remaining-tokens")); }

// 6000 a minute come back at 100 a second: figures hold with three seconds to spare.
constexpr int64_t kPerMinute = 6000, kSlack = 300;

TEST(TokenLimit, IsReservedAtAdmissionAndSettledAtTheEnd) {
  TestReplica replica(limited(kPerMinute));
  replica.model().add_script({.pieces = {std::string(1000, 'a')}});
  const Reply whole = ask(replica, R"("max_tokens":2000)");
  ASSERT_EQ(whole.status, 200);
  const int64_t used = parse_json(whole.body).at("usage").at("total_tokens").as_int64();
  EXPECT_GT(used, 1000);
  EXPECT_GE(left(whole), kPerMinute - used);
  EXPECT_LE(left(whole), kPerMinute - used + kSlack);
  replica.model().add_script({.pieces = {"abcd"}, .stall = true});
  RawClient client(replica.port());
  client.send(
      net::testing::post(kChat, chat_body(R"("stream":true,"max_tokens":2000)"), "x-api-key: app-key\r\n"));
  ASSERT_TRUE(client.read_until("abcd"));
  EXPECT_LT(left(ask(replica, R"("max_tokens":1)")),
            kPerMinute - used - 2000 + kSlack);  // the stream holds its own
  client.close();
  EXPECT_TRUE(eventually(
      [&] { return replica.model().active() == 0 && replica.server().requests_in_flight() == 0; }));
  // and gave back what it did not use
  EXPECT_GT(left(replica.get("/v1/models", "x-api-key: app-key\r\n")), kPerMinute - used - 1000);
}

TEST(TokenLimit, ARequestBeyondItIs429WithTheTimeToComeBack) {
  TestReplica replica(limited(1000));
  replica.model().add_script({.pieces = {"a"}, .stall = true});
  RawClient client(replica.port());
  client.send(
      net::testing::post(kChat, chat_body(R"("stream":true,"max_tokens":800)"), "x-api-key: app-key\r\n"));
  ASSERT_TRUE(client.read_until("\"a\""));
  const Reply refused = ask(replica, R"("max_tokens":800)");
  EXPECT_EQ(refused.status, 429);
  const json::value error = parse_json(refused.body).at("error");
  EXPECT_EQ(error.at("code"), "rate_limit_exceeded");
  EXPECT_EQ(error.at("type"), "rate_limit_error");
  EXPECT_GT(std::stoi(refused.headers.at("retry-after")), 20);
  EXPECT_EQ(refused.headers.at("x-should-retry"), "true");
  EXPECT_EQ(refused.headers.at("x-ratelimit-limit-tokens"), "1000");
  EXPECT_EQ(replica.model().requests().size(), 1U);  // it did not reach the model
}

TEST(TokenLimit, APromptThatNeverFitsIsToldNotToComeBack) {
  TestReplica replica(limited(10));
  const Reply refused = ask(replica, R"("max_tokens":1)");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(refused.headers.at("x-should-retry"), "false");
  EXPECT_FALSE(refused.headers.contains("retry-after"));
}

TEST(TokenLimit, WhatTheEngineRefusesCostsNothing) {
  TestReplica replica(limited(1000));
  replica.model().refuse_next(Error(ErrorCode::resource_exhausted, "full").with_reason("queue_full"));
  const Reply refused = ask(replica, R"("max_tokens":500)");
  EXPECT_EQ(refused.status, 429);
  EXPECT_EQ(parse_json(refused.body).at("error").at("code"), "queue_full");
  EXPECT_EQ(left(refused), 1000);
}

TEST(TokenLimit, CountsEveryChoice) {
  TestReplica replica(limited(kPerMinute));
  for (int i = 0; i < 3; ++i) replica.model().add_script({.pieces = {std::string(500, 'a')}});
  const Reply reply = ask(replica, R"("n":3,"max_tokens":1000)");
  EXPECT_EQ(parse_json(reply.body).at("usage").at("completion_tokens"), 1500);
  EXPECT_LE(left(reply), kPerMinute - 1500 + kSlack);
  EXPECT_GT(left(reply), kPerMinute - 3000);
}

// ---- spans

const net::RouteSpec kChatRoute{.method = net::Method::post,
                                .path = kChat,
                                .auth = net::AuthPolicy::inference,
                                .admission = net::Admission::while_serving};
const net::RouteSpec kMetricsRoute{
    .method = net::Method::get, .path = "/metrics", .auth = net::AuthPolicy::metrics};
const net::RouteSpec kAdminRoute{
    .method = net::Method::post, .path = "/sleep", .auth = net::AuthPolicy::admin};

net::Request request_of(const net::RouteSpec& route) {
  return {.method = route.method,
          .path = std::string(route.path),
          .id = "r-1",
          .key_name = "app",
          .route = &route,
          .received_ns = 1000};
}

const net::AttributeValue* attribute(const net::Span& span, std::string_view name) {
  for (const auto& [key, value] : span.attributes)
    if (key == name) return &value;
  return nullptr;
}

TEST(Spans, AreOfWorkAndAdministrationWithAGoodKey) {
  const auto count = [](const net::RouteSpec& route, int status) {
    return spans_of(request_of(route), {.status = status}, 2000, 9'000'000).size();
  };
  EXPECT_EQ(count(kChatRoute, 200), 1U);
  EXPECT_EQ(count(kChatRoute, 429), 1U);
  EXPECT_EQ(count(kChatRoute, 401), 0U);
  EXPECT_EQ(count(kAdminRoute, 200), 1U);
  EXPECT_EQ(count(kMetricsRoute, 200), 0U);
  EXPECT_TRUE(spans_of({}, {.status = 404}, 2000, 9'000'000).empty());
}

TEST(Spans, ContinueTheCallersTraceUnlessItIsNotSampled) {
  net::Request request = request_of(kChatRoute);
  request.headers = {{"traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
                     {"tracestate", "v=1"}};
  net::Completion completion{.status = 200, .duration_ns = 500};
  completion.trace_parts.push_back({"queue", 1100, 1200, {}});
  const auto spans = spans_of(request, completion, 2000, 9'000'000);
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(to_hex(spans[0].trace_id), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(to_hex(spans[0].parent), "b7ad6b7169203331");
  EXPECT_EQ(spans[0].state, "v=1");
  EXPECT_EQ(spans[0].start_unix_ns, 9'000'000 - 1000);
  EXPECT_EQ(spans[0].end_unix_ns, 9'000'000 - 500);
  EXPECT_EQ(spans[1].parent, spans[0].id);
  EXPECT_EQ(spans[1].trace_id, spans[0].trace_id);
  EXPECT_EQ(spans[1].start_unix_ns, 9'000'000 - 900);
  request.headers[0].value = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
  EXPECT_TRUE(spans_of(request, completion, 2000, 9'000'000).empty());
  request.headers[0].value = "garbage";
  EXPECT_EQ(spans_of(request, completion, 2000, 9'000'000)[0].parent, net::SpanId{});
}

TEST(Spans, SayHowARequestFailed) {
  const auto root = [](net::Completion completion) {
    return spans_of(request_of(kChatRoute), completion, 2000, 9'000'000).at(0);
  };
  EXPECT_EQ(root({.status = 200}).error, "");
  EXPECT_EQ(root({.status = 400, .error = "invalid_value"}).error,
            "");  // the client's fault is no error of a server's span
  EXPECT_EQ(std::get<std::string>(*attribute(root({.status = 400, .error = "invalid_value"}), "error.type")),
            "invalid_value");
  EXPECT_EQ(root({.status = 500, .error = "internal"}).error, "internal");
  EXPECT_EQ(root({.status = 200, .truncated = true, .error = "engine_dead"}).error, "engine_dead");
  EXPECT_EQ(root({.status = 499}).error, "the client left");
}

// With no collector listening: the request does not mind, and its four spans are counted as dropped.
TEST(Spans, ComeFromARealRequestWithItsPhases) {
  ReplicaOptions options;
  options.traces = net::TraceExporterOptions{.url = "http://127.0.0.1:9/v1/traces", .interval_ms = 1};
  TestReplica traced(std::move(options));
  traced.model().add_script({.pieces = {"Hi", "!"}});
  EXPECT_EQ(traced.post(kChat, chat_body()).status, 200);
  EXPECT_TRUE(eventually([&] {
    return traced.metrics()
               .counter("neutrino_trace_spans_dropped_total", "Spans that nobody will see, by why",
                        {{"reason", "export_failed"}})
               .Value() == 4;  // request, queue, prefill, decode
  }));
}

}  // namespace
}  // namespace neutrino::server::testing
