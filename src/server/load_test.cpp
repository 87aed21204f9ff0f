// What a server under load tells: deadlines, early refusals, how busy it is, how far a prompt is, what memory it has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/load_report.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;
using ::testing::HasSubstr;

constexpr std::string_view kChat = "/v1/chat/completions";

json::object error_of(const Reply& reply) { return parse_json(reply.body).at("error").as_object(); }

TEST(Priority, ReachesTheModel) {
  TestReplica replica;
  EXPECT_EQ(replica.post(kChat, chat_body(R"("priority":-3)")).status, 200);
  EXPECT_EQ(replica.model().requests().back().priority, -3);
  EXPECT_EQ(replica.post(kChat, chat_body(R"("priority":1.5)")).status, 400);
}

TEST(Deadlines, TheShorterOfHeaderAndFieldHolds) {
  const struct {
    std::string_view header, field;
    int64_t least, most;
  } cases[] = {{"", "", 0, 0},
               {"X-Request-Timeout: 2\r\n", "", 1000, 2000},
               {"X-Request-Timeout: 0.75\r\n", "", 400, 750},
               {"", R"("timeout_ms":1500)", 1000, 1500},
               {"X-Request-Timeout: 2\r\n", R"("timeout_ms":1500)", 1000, 1500},
               {"x-request-timeout: 1\r\n", R"("timeout_ms":1500)", 500, 1000}};
  TestReplica replica;
  for (const auto& [header, field, least, most] : cases) {
    ASSERT_EQ(replica.post(kChat, chat_body(field), header).status, 200) << header << field;
    const int64_t timeout_ms = replica.model().requests().back().timeout_ms;
    EXPECT_GE(timeout_ms, least) << header << field;
    EXPECT_LE(timeout_ms, most) << header << field;
  }
}

TEST(Deadlines, AHeaderThatIsNoTimeIsRefusedByName) {
  TestReplica replica;
  for (const std::string_view value :
       {"0", "-1", "soon", "1e3", "nan", "inf", "1 s", "1,5", "86401", "0x10"}) {
    const Reply reply = replica.post(kChat, chat_body(), fmt::format("X-Request-Timeout: {}\r\n", value));
    ASSERT_EQ(reply.status, 400) << value;
    EXPECT_EQ(error_of(reply).at("param"), "X-Request-Timeout");
  }
  for (const std::string_view value : {"0", "-1", "1.5", "\"1\"", "86400001"})
    EXPECT_EQ(replica.post(kChat, chat_body(fmt::format("\"timeout_ms\":{}", value))).status, 400) << value;
  EXPECT_TRUE(replica.model().requests().empty());
}

TEST(Deadlines, PassedMeans504AndAnErrorEvent) {
  const Error late = Error(ErrorCode::deadline_exceeded, "too late").with_reason("deadline_exceeded");
  TestReplica replica;
  replica.model().add_script({.pieces = {}, .error = late});
  const Reply whole = replica.post(kChat, chat_body());
  EXPECT_EQ(whole.status, 504);
  EXPECT_EQ(error_of(whole).at("code"), "deadline_exceeded");
  EXPECT_EQ(error_of(whole).at("type"), "server_error");
  EXPECT_EQ(whole.headers.at("x-should-retry"), "false");
  replica.model().add_script({.pieces = {"some"}, .error = late});
  const Events events = parse_events(replica.post(kChat, chat_body(R"("stream":true)")).body);
  EXPECT_FALSE(events.done);
  EXPECT_EQ(events.items.back().at("error").at("code"), "deadline_exceeded");
}

TEST(Refusals, ComeBeforeTheTemplateAndSayWhenToComeBack) {
  TestReplica replica;
  replica.model().set_status({.ready = true, .queue_drain_seconds = 3.2});
  replica.model().set_admission(
      Error(ErrorCode::resource_exhausted, "the queue is full").with_reason("queue_full"));
  const Reply reply = replica.post(kChat, chat_body());
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(error_of(reply).at("code"), "queue_full");
  EXPECT_EQ(reply.headers.at("retry-after"), "4");
  EXPECT_EQ(reply.headers.at("retry-after-ms"), "3200");
  EXPECT_EQ(reply.headers.at("x-should-retry"), "true");
  EXPECT_TRUE(replica.model().conversations().empty());
  // One that names a priority may go before those that wait: it is read first.
  EXPECT_EQ(replica.post(kChat, chat_body(R"("priority":-1)")).status, 200);
  replica.model().set_admission(std::nullopt);
  EXPECT_EQ(replica.post(kChat, chat_body()).status, 200);
}

// Every route that generates; those of other APIs know no priority, whatever their texts speak of.
TEST(Refusals, ComeEarlyOnEveryRouteThatGenerates) {
  const std::pair<std::string_view, std::string> bodies[] = {
      {"/v1/completions", completion_body()},
      {"/v1/messages",
       R"({"model":"fake","max_tokens":4,"messages":[{"role":"user","content":"\"priority\""}],"priority":1})"},
      {"/v1/responses", R"({"model":"fake","input":"Hi","priority":1})"}};
  TestReplica replica;
  for (const auto& [path, body] : bodies) {
    SCOPED_TRACE(path);
    replica.model().set_status({.ready = true, .queue_drain_seconds = 2});
    replica.model().set_admission(
        Error(ErrorCode::resource_exhausted, "the wait would be too long").with_reason("queue_full"));
    replica.model().take_asked();
    const Reply reply = replica.post(path, body);
    EXPECT_EQ(reply.status, path == "/v1/messages" ? 529 : 429)
        << reply.body;  // Anthropic's own for overload
    EXPECT_EQ(reply.headers.at("retry-after"), "2");
    const auto asked = replica.model().take_asked();
    EXPECT_TRUE(asked.tokenized.empty() && asked.conversations.empty() && asked.requests.empty());
    replica.model().set_admission(std::nullopt);
    EXPECT_EQ(replica.post(path, body).status, 200);
    EXPECT_FALSE(replica.model().take_asked().tokenized.empty());
  }
}

const chat::ChatModelStatus kBusy{.ready = true,
                                  .running = 3,
                                  .waiting = 2,
                                  .kv_blocks_referenced = 25,
                                  .kv_blocks_cached = 25,
                                  .kv_blocks_free = 50,
                                  .queue_drain_seconds = 1.5};

TEST(Load, InAHeaderForGatewaysThatAsk) {
  TestReplica replica;
  replica.model().set_status(kBusy);
  EXPECT_FALSE(replica.post(kChat, chat_body()).headers.contains("endpoint-load-metrics"));
  for (const std::string_view more : {"", R"("stream":true)", R"("n":0)"})  // a refusal has it, too
    EXPECT_EQ(replica.post(kChat, chat_body(more), "endpoint-load-metrics-format: text\r\n")
                  .headers.at("endpoint-load-metrics"),
              "TEXT named_metrics.kv_cache_usage_perc=0.25, named_metrics.num_requests_waiting=2, "
              "named_metrics.num_requests_running=3");
  const std::string report = replica.post(kChat, chat_body(), "Endpoint-Load-Metrics-Format: JSON\r\n")
                                 .headers.at("endpoint-load-metrics");
  ASSERT_TRUE(report.starts_with("JSON "));
  EXPECT_EQ(parse_json(report.substr(5)).at("named_metrics").at("num_requests_waiting"), 2);
  EXPECT_FALSE(replica.post(kChat, chat_body(), "endpoint-load-metrics-format: BIN\r\n")
                   .headers.contains("endpoint-load-metrics"));
}

TEST(Load, HasARoute) {
  TestReplica replica;
  replica.model().set_status(kBusy);
  const json::value body = parse_json(replica.get("/load").body);
  EXPECT_EQ(body.at("server_load"), 5);
  EXPECT_EQ(body.at("num_requests_running"), 3);
  EXPECT_EQ(body.at("kv_cache_usage_perc"), 0.25);
  EXPECT_EQ(body.at("expected_wait_seconds"), 1.5);
  EXPECT_EQ(kv_cache_usage({}), 0);
}

TEST(Progress, IsShownOnRequestOnly) {
  TestReplica replica;
  const chat::PromptProgress progress{.total = 100, .cached = 20, .processed = 60, .time_ms = 12.5};
  for (const std::string_view path : {kChat, std::string_view("/v1/completions")}) {
    const auto body = path == kChat ? chat_body : completion_body;
    replica.model().add_script({.pieces = {"a"}, .progress = progress});
    const Events events =
        parse_events(replica.post(path, body(R"("stream":true,"return_progress":true)")).body);
    int64_t seen = 0;
    for (const json::object& event : events.items) {
      if (!event.contains("prompt_progress")) continue;
      ++seen;
      EXPECT_EQ(to_text(event.at("prompt_progress")),
                R"({"total":100,"cache":20,"processed":60,"time_ms":12.5})");
      EXPECT_EQ(event.at("choices").as_array().size(), 1U);
    }
    EXPECT_EQ(seen, 1) << path;
    replica.model().add_script({.pieces = {"a"}, .progress = progress});
    EXPECT_EQ(replica.post(path, body(R"("stream":true)")).body.find("prompt_progress"), std::string::npos);
    EXPECT_EQ(error_of(replica.post(path, body(R"("return_progress":true)"))).at("param"), "return_progress");
  }
}

TEST(Memory, EverythingThatGrowsHasACap) {
  TestReplica replica;
  replica.model().set_memory({{"kv_cache", 10, 100}, {"grammar_cache", 0, 50}});
  const json::value memory = parse_json(replica.get("/v1/metadata").body).at("memory");
  std::vector<std::string> names;
  for (const json::value& part : memory.at("parts").as_array()) {
    names.emplace_back(part.at("name").as_string());
    EXPECT_GT(part.at("bytes_max").to_number<int64_t>(), 0) << names.back();
    EXPECT_LE(part.at("bytes").to_number<int64_t>(), part.at("bytes_max").to_number<int64_t>())
        << names.back();
  }
  EXPECT_THAT(names, ::testing::ElementsAre("kv_cache", "grammar_cache", "request_bodies", "chat_templates"));
}

}  // namespace
}  // namespace neutrino::server::testing
