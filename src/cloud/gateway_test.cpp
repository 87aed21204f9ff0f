// The gateway between real sockets: raw clients in front, stub replicas (and scripted ones that die) behind.
#include "cloud/gateway.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/sha256.h"
#include "cloud/testing/stub_replica.h"
#include "net/testing/raw_client.h"
#include "net/testing/raw_server.h"

namespace neutrino::cloud {
namespace {

using net::testing::ask;
using net::testing::get;
using net::testing::post;
using net::testing::RawClient;
using net::testing::RawPeer;
using net::testing::RawServer;
using net::testing::Reply;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::StubOptions;
using testing::StubReplica;

class MemorySink final : public UsageSink {
 public:
  void begin(const UsageRecord&) override { ++begun; }
  int64_t record(UsageRecord record) override {
    const std::lock_guard lock(mutex_);
    record.sequence = static_cast<int64_t>(records_.size()) + 1;
    records_.push_back(record);
    return record.sequence;
  }
  std::vector<UsageRecord> records() const {
    const std::lock_guard lock(mutex_);
    return records_;
  }
  std::atomic<int> begun{0};

 private:
  mutable std::mutex mutex_;
  std::vector<UsageRecord> records_;
};

bool eventually(const std::function<bool()>& holds, milliseconds patience = milliseconds(10'000)) {
  const auto end = steady_clock::now() + patience;
  while (!holds() && steady_clock::now() < end) std::this_thread::sleep_for(milliseconds(2));
  return holds();
}

std::string with_key(std::string_view key, std::string_view more = "") {
  return fmt::format("Authorization: Bearer {}\r\n{}", key, more);
}

std::string chat(std::string_view model, std::string_view more = "") {
  return fmt::format(R"({{"model":"{}","messages":[{{"role":"user","content":"hello"}}]{}}})", model, more);
}

KeyRoute key_route(std::string id) {
  return {.id = id, .workspace = "w", .member = "m", .digest = to_hex(sha256("sk-" + id))};
}

// Endpoint "e" of workspace "w" with the given replicas, and the key "sk-k".
class GatewayTest : public ::testing::Test {
 protected:
  GatewayTest() { spdlog::set_level(spdlog::level::off); }
  ~GatewayTest() override {
    if (gateway) gateway->drain(milliseconds(0));
    if (thread.joinable()) thread.join();
  }

  void start(int replicas, StubOptions options = {}) {
    for (int i = 0; i < replicas; ++i) add_stub(options);
    table.endpoints.push_back({.id = "e1", .workspace = "w", .name = "e", .deployments = {{.id = "d"}}});
    table.keys.push_back(key_route("k"));
    for (const auto& stub : stubs) add_replica(stub->port());
    gateway = std::make_unique<Gateway>(GatewayOptions{.server = {.port = 0, .tick = milliseconds(20)},
                                                       .usage = &sink,
                                                       .on_wake =
                                                           [this](const std::string& endpoint) {
                                                             ++wakes;
                                                             if (on_wake) on_wake(endpoint);
                                                           },
                                                       .wake_ping = milliseconds(30)});
    gateway->listen();
    publish();
    thread = std::thread([this] { gateway->run(); });
  }
  void add_stub(StubOptions options = {}) {
    stubs.push_back(std::make_unique<StubReplica>(options));
    stubs.back()->start();
  }
  void add_replica(int port) {
    auto& replicas = table.endpoints[0].deployments[0].replicas;
    replicas.push_back({.id = "r" + std::to_string(port), .host = "127.0.0.1", .port = port});
  }
  void publish() {
    ++table.version;
    gateway->set_routes(table);
  }
  EndpointRoute& endpoint() { return table.endpoints[0]; }
  Reply call(std::string_view body, std::string_view key = "sk-k",
             std::string_view path = "/v1/chat/completions", std::string_view more = "") {
    return ask(gateway->port(), post(path, body, with_key(key, more)));
  }
  EndpointSignals signals() {
    const auto all = gateway->report().endpoints;
    return all.empty() ? EndpointSignals{} : all[0];
  }

  RouteTable table;
  MemorySink sink;
  std::vector<std::unique_ptr<StubReplica>> stubs;
  std::unique_ptr<Gateway> gateway;
  std::function<void(const std::string&)> on_wake;  // io thread
  std::atomic<int> wakes{0};
  std::thread thread;
};

TEST_F(GatewayTest, FindsEndpointsByModelAliasAdapterAndPath) {
  start(1);
  endpoint().aliases = {"alias"};
  endpoint().adapters = {"adapter"};
  endpoint().deployments[0].model = "served-name";
  endpoint().deployments[0].api_key = "replica-secret";
  publish();
  struct Case {
    std::string_view path, model, served;
    int status;
  };
  for (const Case& row : std::initializer_list<Case>{
           {"/v1/chat/completions", "e", "served-name", 200},
           {"/v1/chat/completions", "alias", "served-name", 200},
           {"/v1/chat/completions", "adapter", "adapter", 200},
           {"/endpoints/e/v1/chat/completions", "anything", "served-name", 200},
           {"/endpoints/e/v1/chat/completions", "adapter", "adapter", 200},
           {"/endpoints/%65/v1/chat/completions?x=1", "e", "served-name", 200},
           {"/endpoints/other/v1/chat/completions", "e", "", 404},
           {"/endpoints/e/v1/nothing", "e", "", 404},
           {"/endpoints/e", "e", "", 404},
           {"/v1/chat/completions", "nothing", "", 404},
           {"/v1/embeddings", "e", "served-name", 200},
       }) {
    const size_t before = stubs[0]->served().size();
    const Reply reply = call(
        chat(row.model), "sk-k", row.path,
        "traceparent: 00-trace\r\nX-Neutrino-Usage-Id: u-forged\r\nX-Request-Id: my-id\r\nCookie: c=1\r\n");
    EXPECT_EQ(reply.status, row.status) << row.path << reply.body;
    EXPECT_EQ(reply.headers.at("x-request-id"), "my-id");
    if (row.status != 200) continue;
    ASSERT_EQ(stubs[0]->served().size(), before + 1);
    EXPECT_EQ(stubs[0]->served().back().model, row.served) << row.path;
    EXPECT_EQ(stubs[0]->served().back().request_id, "my-id");
    EXPECT_EQ(stubs[0]->served().back().usage_id, sink.records().back().id);
    EXPECT_NE(sink.records().back().model, "anything");  // usage is summed up by names that there are
    EXPECT_EQ(stubs[0]->served().back().traceparent, "00-trace");
    EXPECT_EQ(stubs[0]->served().back().authorization, "Bearer replica-secret");  // the client's stays here
  }
  const Reply models = ask(gateway->port(), get("/v1/models", with_key("sk-k")));
  EXPECT_THAT(models.body, HasSubstr("adapter"));
  EXPECT_EQ(ask(gateway->port(), get("/v1/models/alias", with_key("sk-k"))).status, 200);
  EXPECT_EQ(ask(gateway->port(), get("/v1/models/none", with_key("sk-k"))).status, 404);
  EXPECT_EQ(ask(gateway->port(), get("/endpoints/e/health", with_key("sk-k"))).body, R"({"status":"ok"})");
  EXPECT_EQ(ask(gateway->port(), get("/v1/files", with_key("sk-k"))).status, 400);
}

TEST_F(GatewayTest, KeysOfEveryKind) {
  start(1);
  const auto add = [&](std::string id, auto change) {
    KeyRoute key = key_route(std::move(id));
    change(key);
    table.keys.push_back(key);
  };
  add("revoked", [](KeyRoute& k) { k.revoked = true; });
  add("expired", [](KeyRoute& k) { k.expires_ms = 1; });
  add("later", [](KeyRoute& k) { k.expires_ms = 1LL << 60; });
  add("scope", [](KeyRoute& k) { k.inference = false; });
  add("elsewhere", [](KeyRoute& k) { k.limits.addresses = {"10.0.0.0/8"}; });
  add("here", [](KeyRoute& k) { k.limits.addresses = {"127.0.0.0/8"}; });
  add("model", [](KeyRoute& k) { k.models = {"other"}; });
  add("tenant", [](KeyRoute& k) { k.workspace = "other"; });
  publish();
  struct Case {
    std::string_view key;
    int status;
    std::string_view code;
  };
  for (const Case& row : std::initializer_list<Case>{{"sk-k", 200, ""},
                                                     {"sk-here", 200, ""},
                                                     {"sk-later", 200, ""},
                                                     {"sk-unknown", 401, "invalid_api_key"},
                                                     {"sk-revoked", 401, "invalid_api_key"},
                                                     {"sk-expired", 401, "invalid_api_key"},
                                                     {"sk-scope", 403, "insufficient_scope"},
                                                     {"sk-elsewhere", 403, "address_not_allowed"},
                                                     {"sk-model", 404, "model_not_found"},
                                                     {"sk-tenant", 404, "model_not_found"}}) {
    const Reply reply = call(chat("e"), row.key);
    EXPECT_EQ(reply.status, row.status) << row.key;
    EXPECT_THAT(reply.body, HasSubstr(row.code)) << row.key;
    if (row.status == 200) continue;
    for (const char* path : {"/v1/messages", "/endpoints/e/v1/completions", "/v1/anything/else"})
      EXPECT_EQ(call(chat("e"), row.key, path).status, row.status) << row.key << path;
  }
  EXPECT_EQ(ask(gateway->port(), post("/v1/chat/completions", chat("e"))).status, 401);
  EXPECT_EQ(ask(gateway->port(), post("/v1/chat/completions", chat("e"), "x-api-key: sk-k\r\n")).status, 200);
  EXPECT_EQ(ask(gateway->port(), get("/v1/models")).status, 401);
  EXPECT_EQ(ask(gateway->port(), get("/health")).status, 200);
  // Refused before its body is read: the server does not wait for the rest.
  RawClient client(gateway->port());
  client.send(
      "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
      "application/json\r\nContent-Length: 1000000\r\n\r\n{");
  EXPECT_EQ(client.read_reply().status, 401);
}

TEST_F(GatewayTest, StreamsPassThroughAndAreMetered) {
  start(1);
  endpoint().prices = {.input = 10, .cached_input = 1, .output = 100};
  publish();
  const Reply plain = call(chat("e", R"(,"stream":true,"max_tokens":5)"));
  const Reply asked =
      call(chat("e", R"(,"stream":true,"max_tokens":5,"stream_options":{"include_usage":true})"));
  EXPECT_EQ(plain.status, 200);
  EXPECT_TRUE(plain.complete);
  EXPECT_THAT(plain.body, HasSubstr("data: [DONE]"));
  EXPECT_THAT(plain.body, Not(HasSubstr("prompt_tokens")));
  EXPECT_THAT(asked.body, HasSubstr("prompt_tokens"));
  const Reply whole = call(chat("e", R"(,"max_tokens":7)"));
  EXPECT_EQ(parse_json(whole.body).at("usage").at("completion_tokens"), 7);
  ASSERT_TRUE(eventually([&] { return sink.records().size() == 3; }));
  const auto served = stubs[0]->served();
  for (size_t i = 0; i < 3; ++i) {
    const UsageRecord one = sink.records()[i];
    EXPECT_EQ(one.input_tokens, served[i].prompt_tokens);
    EXPECT_EQ(one.output_tokens, i == 2 ? 7 : 5);
    EXPECT_EQ(one.cost, one.input_tokens * 10 + one.output_tokens * 100);
    EXPECT_TRUE(one.exact && one.complete);
    EXPECT_EQ(one.status, 200);
    EXPECT_EQ(one.key + one.endpoint + one.deployment + one.workspace + one.member + one.model, "ke1dwme");
    EXPECT_EQ(one.request_id, served[i].request_id);
  }
  EXPECT_EQ(sink.begun, 3);
  ASSERT_TRUE(eventually([&] { return signals().requests_started == 3; }));
  EXPECT_TRUE(signals().time_to_first_token_p90_ms.has_value());
  EXPECT_TRUE(signals().inter_token_latency_p90_ms.has_value());
  EXPECT_EQ(signals().requests_per_minute, 3);
  EXPECT_EQ(signals().tokens_in_flight, 0);
}

TEST_F(GatewayTest, LargeAnswersAreNotBuffered) {
  start(1);
  RawClient client(gateway->port());
  client.send(get("/endpoints/e/v1/large", with_key("sk-k")));
  EXPECT_TRUE(client.read_until("xxxx"));
  const Reply reply = ask(gateway->port(), get("/endpoints/e/v1/large", with_key("sk-k")));
  EXPECT_EQ(reply.body.size(), 64u << 20);
  EXPECT_TRUE(reply.complete);
}

TEST_F(GatewayTest, AClientThatLeavesEndsTheWork) {
  start(1, {.token = milliseconds(20)});
  for (const bool stream : {true, false}) {
    RawClient client(gateway->port());
    client.send(post("/v1/chat/completions",
                     chat("e", stream ? R"(,"stream":true,"max_tokens":1000)" : R"(,"max_tokens":1000)"),
                     with_key("sk-k")));
    ASSERT_TRUE(eventually([&] { return stubs[0]->in_flight() == 1; }));
    if (stream) client.read_until("word");
    const auto left = steady_clock::now();
    client.reset();
    EXPECT_TRUE(eventually([&] { return stubs[0]->in_flight() == 0; }));
    EXPECT_LT(steady_clock::now() - left, milliseconds(3000));
  }
  ASSERT_TRUE(eventually([&] { return sink.records().size() == 2; }));
  for (const UsageRecord& record : sink.records()) {
    EXPECT_EQ(record.status, 499);
    EXPECT_FALSE(record.complete);
    EXPECT_FALSE(record.exact);
  }
  EXPECT_TRUE(eventually([&] { return signals().requests_in_flight == 0; }));
}

TEST_F(GatewayTest, AReplicaThatDiesBeforeTheFirstByteIsReplaced) {
  RawServer dead([](RawPeer& peer) { peer.read_until("\r\n\r\n"), peer.reset(); });
  start(1);
  add_replica(dead.port());
  add_replica(net::testing::closed_port());
  publish();
  for (int i = 0; i < 40; ++i) {
    EXPECT_EQ(call(chat("e")).status, 200);
    EXPECT_THAT(call(chat("e", R"(,"stream":true)")).body, HasSubstr("[DONE]"));
  }
  EXPECT_GT(dead.accepted(), 0);
  EXPECT_EQ(sink.records().size(), 80u);
}

TEST_F(GatewayTest, WhatMayHaveBeenDoneIsNotDoneTwice) {
  std::atomic<int> requests{0};
  const auto die = [&](RawPeer& peer) { requests += peer.read_until("\r\n\r\n"), peer.reset(); };
  RawServer first(die), second(die);
  start(0);
  add_replica(first.port());
  add_replica(second.port());
  publish();
  const Reply reply = call(chat("e"), "sk-k", "/v1/load_lora_adapter");
  EXPECT_EQ(reply.status, 503);
  EXPECT_THAT(reply.body, HasSubstr("replica_failed"));
  EXPECT_EQ(requests, 1);
}

TEST_F(GatewayTest, AReplicaThatDiesLaterEndsItsStreamWithAnError) {
  RawServer dying([](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        "1b\r\ndata: {\"choices\":[{}]}\n\n \r\n");
    peer.reset();
  });
  RawServer cut([](RawPeer& peer) {
    peer.read_until("\r\n\r\n");
    peer.send(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{\"half\":");
    peer.reset();
  });
  start(0);
  add_replica(dying.port());
  publish();
  const Reply stream = call(chat("e", R"(,"stream":true)"));
  EXPECT_EQ(stream.status, 200);
  EXPECT_THAT(stream.body, HasSubstr("replica_failed"));
  EXPECT_THAT(stream.body, Not(HasSubstr("[DONE]")));
  endpoint().deployments[0].replicas.clear();
  add_replica(cut.port());
  publish();
  const Reply whole = call(chat("e"));
  EXPECT_FALSE(whole.complete && whole.status == 200);  // it does not look like a whole answer
  ASSERT_TRUE(eventually([&] { return sink.records().size() == 2; }));
  for (const UsageRecord& record : sink.records()) EXPECT_FALSE(record.complete);
}

TEST_F(GatewayTest, RequestsAreHeldWhileTheEndpointWakes) {
  start(0);
  on_wake = [&](const std::string& id) { EXPECT_EQ(id, "e1"); };
  constexpr int kRequests = 50;
  std::atomic<int> good{0}, with_comments{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < kRequests; ++i)
    clients.emplace_back([&, i] {
      const Reply reply = call(chat("e", i % 2 ? R"(,"stream":true)" : ""));
      good += reply.status == 200 && reply.complete && reply.body.find("word") != std::string::npos;
      with_comments += reply.body.find(": waking\n\n") != std::string::npos;
    });
  EXPECT_TRUE(eventually([&] { return signals().requests_held == kRequests; }));
  EXPECT_GT(signals().tokens_held, 0);
  EXPECT_GE(wakes, 1);
  std::this_thread::sleep_for(milliseconds(100));
  add_stub();
  add_replica(stubs[0]->port());
  publish();
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(good, kRequests);
  EXPECT_EQ(with_comments, kRequests / 2);  // streams alone
  EXPECT_TRUE(eventually([&] { return signals().requests_held == 0; }));
  for (const UsageRecord& record : sink.records()) EXPECT_GE(record.queue_ms, 50);
}

TEST_F(GatewayTest, HoldingHasLimits) {
  start(0);
  endpoint().held_max = 1;
  endpoint().wake_timeout_ms = 400;
  publish();
  std::thread first([&] {
    const Reply reply = call(chat("e"));
    EXPECT_EQ(reply.status, 503);
    EXPECT_EQ(reply.headers.count("retry-after"), 1u);
    EXPECT_THAT(reply.body, HasSubstr("endpoint_not_ready"));
  });
  ASSERT_TRUE(eventually([&] { return signals().requests_held == 1; }));
  const Reply second = call(chat("e"));
  EXPECT_EQ(second.status, 429);
  EXPECT_THAT(second.body, HasSubstr("queue_full"));
  first.join();
  const Reply stream = call(chat("e", R"(,"stream":true)"));
  EXPECT_EQ(stream.status, 200);  // comments came first
  EXPECT_THAT(stream.body, HasSubstr("endpoint_not_ready"));
  endpoint().paused = true;
  publish();
  EXPECT_THAT(call(chat("e")).body, HasSubstr("endpoint_paused"));
  EXPECT_TRUE(sink.records().empty());  // none was sent to a replica
  // A client that leaves the queue is gone from it.
  endpoint().paused = false;
  endpoint().wake_timeout_ms = 60'000;
  publish();
  RawClient client(gateway->port());
  client.send(post("/v1/chat/completions", chat("e"), with_key("sk-k")));
  ASSERT_TRUE(eventually([&] { return signals().requests_held == 1; }));
  client.reset();
  EXPECT_TRUE(eventually([&] { return signals().requests_held == 0; }));
}

TEST_F(GatewayTest, AStartingReplicaIsWaitedFor) {
  start(1, {.startup = milliseconds(400)});
  endpoint().deployments[0].replicas.clear();
  publish();
  std::thread client([&] { EXPECT_EQ(call(chat("e")).status, 200); });
  ASSERT_TRUE(eventually([&] { return signals().requests_held == 1; }));
  add_replica(stubs[0]->port());  // listed a little early: it answers 503
  publish();
  client.join();
}

TEST_F(GatewayTest, ARevokedKeyEndsItsOpenRequests) {
  start(1, {.token = milliseconds(20)});
  table.keys.push_back(key_route("soon"));
  table.keys.back().expires_ms = std::chrono::system_clock::now().time_since_epoch() / milliseconds(1) + 700;
  publish();
  RawClient stream(gateway->port()), whole(gateway->port()), expiring(gateway->port()),
      other(gateway->port());
  const std::string endless = R"(,"stream":true,"max_tokens":100000)";
  table.keys.push_back(key_route("other"));
  publish();
  stream.send(post("/v1/chat/completions", chat("e", endless), with_key("sk-k")));
  whole.send(post("/v1/chat/completions", chat("e", R"(,"max_tokens":100000)"), with_key("sk-k")));
  expiring.send(post("/v1/chat/completions", chat("e", endless), with_key("sk-soon")));
  other.send(post("/v1/chat/completions", chat("e", endless), with_key("sk-other")));
  ASSERT_TRUE(stream.read_until("word") && expiring.read_until("word") && other.read_until("word"));
  ASSERT_TRUE(eventually([&] { return stubs[0]->in_flight() == 4; }));
  table.keys.erase(table.keys.begin());
  const auto revoked = steady_clock::now();
  publish();
  EXPECT_TRUE(stream.read_until("invalid_api_key"));
  EXPECT_EQ(whole.read_reply().status, 401);
  EXPECT_LT(steady_clock::now() - revoked, milliseconds(1000));
  EXPECT_TRUE(expiring.read_until("invalid_api_key"));
  EXPECT_TRUE(eventually([&] { return stubs[0]->in_flight() == 1; }));  // the other key's
  EXPECT_EQ(call(chat("e")).status, 401);
}

TEST_F(GatewayTest, LimitsOfKeysAndEndpoints) {
  start(1, {.token = milliseconds(20)});
  const auto limited = [&](std::string id, UseLimits limits) {
    table.keys.push_back(key_route(std::move(id)));
    table.keys.back().limits = limits;
  };
  limited("rate", {.requests_per_minute = 2});
  limited("tokens", {.tokens_per_minute = 100});
  limited("once", {.concurrency = 1});
  publish();
  const std::string short_answer = chat("e", R"(,"max_tokens":1)");
  EXPECT_EQ(call(short_answer, "sk-rate").status, 200);
  const Reply second = call(short_answer, "sk-rate");
  EXPECT_EQ(second.status, 200);
  EXPECT_EQ(second.headers.at("x-ratelimit-remaining-requests"), "0");
  const Reply third = call(short_answer, "sk-rate");
  EXPECT_EQ(third.status, 429);
  EXPECT_EQ(third.headers.count("retry-after"), 1u);
  EXPECT_EQ(call(chat("e", R"(,"max_tokens":90)"), "sk-tokens").status, 200);
  EXPECT_EQ(call(chat("e", R"(,"max_tokens":90)"), "sk-tokens").status, 429);

  const auto hold_one = [&](std::string_view key) {
    auto client = std::make_unique<RawClient>(gateway->port());
    client->send(
        post("/v1/chat/completions", chat("e", R"(,"stream":true,"max_tokens":10000)"), with_key(key)));
    EXPECT_TRUE(client->read_until("word"));
    return client;
  };
  auto open = hold_one("sk-once");
  EXPECT_THAT(call(short_answer, "sk-once").body, HasSubstr("concurrency_limit_exceeded"));
  EXPECT_EQ(call(short_answer).status, 200);
  open->reset();
  EXPECT_TRUE(eventually([&] { return call(short_answer, "sk-once").status == 200; }));

  endpoint().limits = {.concurrency = 1};
  publish();
  open = hold_one("sk-k");
  EXPECT_THAT(call(short_answer).body, HasSubstr("concurrency_limit_exceeded"));
  open->reset();
  endpoint().limits = {.addresses = {"10.0.0.0/8"}};
  publish();
  EXPECT_THAT(call(short_answer).body, HasSubstr("address_not_allowed"));
  endpoint().limits = {.requests_per_minute = 1};
  publish();
  EXPECT_EQ(call(short_answer).status, 200);
  EXPECT_EQ(call(short_answer).status, 429);
}

// 64 clients stream until the budget says no; what was spent is within a thousandth of the limit, and never more.
TEST_F(GatewayTest, AHardBudgetHoldsUnderConcurrentStreams) {
  start(2, {.token = milliseconds(1)});
  endpoint().prices = {.input = 100, .output = 1000};
  constexpr int64_t kLimit = 20'000'000;
  table.budgets.push_back({.id = "b", .limit = kLimit});
  table.keys[0].budgets = {"b"};
  publish();
  std::atomic<int> good{0}, refused{0}, other{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 64; ++i)
    clients.emplace_back([&] {
      for (;;) {
        const Reply reply = call(chat("e", R"(,"stream":true,"max_tokens":40)"));
        const bool no = reply.status == 429 && reply.body.find("insufficient_quota") != std::string::npos;
        (reply.status == 200 ? good : no ? refused : other) += 1;
        if (reply.status != 200) return;
      }
    });
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(other, 0);
  EXPECT_EQ(refused, 64);
  ASSERT_TRUE(eventually([&] { return sink.records().size() == static_cast<size_t>(good.load()); }));
  int64_t spent = 0;
  for (const UsageRecord& record : sink.records()) spent += record.cost;
  EXPECT_LE(spent, kLimit + kLimit / 1000);
  EXPECT_GT(spent, kLimit / 2);  // it was used
  int64_t served = 0;
  for (const auto& stub : stubs)
    for (const auto& one : stub->served()) served += one.prompt_tokens * 100 + one.completion_tokens * 1000;
  EXPECT_EQ(served, spent);  // to the token
  std::printf("budget: limit %ld spent %ld requests %d\n", static_cast<long>(kLimit),
              static_cast<long>(spent), good.load());
}

TEST_F(GatewayTest, AnAnswerWithoutALimitGetsTheBudgets) {
  start(1);
  endpoint().output_tokens_max = 9;
  table.budgets.push_back({.id = "b", .unit = "tokens", .limit = 1'000});
  table.keys[0].budgets = {"b"};
  publish();
  EXPECT_EQ(parse_json(call(chat("e")).body).at("usage").at("completion_tokens"), 9);
}

TEST_F(GatewayTest, ReplicasComeAndGoWithoutErrors) {
  start(2, {.token = milliseconds(2)});
  std::atomic<bool> stop{false};
  std::atomic<int> good{0}, bad{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 8; ++i)
    clients.emplace_back([&] {
      while (!stop) {
        const Reply reply = call(chat("e", R"(,"stream":true,"max_tokens":10)"));
        const bool whole =
            reply.status == 200 && reply.complete && reply.body.find("[DONE]") != std::string::npos;
        (whole ? good : bad) += 1;
      }
    });
  for (int round = 0; round < 6; ++round) {  // surge 0: one leaves, drains, and another comes
    std::this_thread::sleep_for(milliseconds(60));
    auto& replicas = endpoint().deployments[0].replicas;
    if (round % 2 == 0) {
      replicas.erase(replicas.begin());
      publish();
    }
    stubs.front()->stop(milliseconds(5000));  // in odd rounds it drains before the gateway hears of it
    std::this_thread::sleep_for(milliseconds(60));
    if (round % 2 == 1) replicas.erase(replicas.begin());
    stubs.erase(stubs.begin());
    add_stub({.token = milliseconds(2)});
    add_replica(stubs.back()->port());
    publish();
  }
  stop = true;
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(bad, 0);
  EXPECT_GT(good, 100);
}

TEST_F(GatewayTest, AShadowGetsCopiesAndItsAnswersAreThrownAway) {
  start(1);
  add_stub();
  endpoint().deployments.push_back({.id = "shadow", .model = "new", .weight = 0, .shadow_percent = 100});
  endpoint().deployments[1].replicas.push_back({.id = "s", .host = "127.0.0.1", .port = stubs[1]->port()});
  publish();
  for (int i = 0; i < 10; ++i) EXPECT_EQ(call(chat("e", R"(,"stream":true)")).status, 200);
  EXPECT_TRUE(eventually([&] { return stubs[1]->served().size() == 10; }));
  EXPECT_EQ(stubs[1]->served()[0].model, "new");
  EXPECT_EQ(stubs[0]->served().size(), 10u);
  EXPECT_EQ(sink.records().size(), 10u);  // a copy is not on anybody's bill
}

TEST_F(GatewayTest, BadBodiesAndBadTables) {
  start(1);
  EXPECT_EQ(call("{").status, 400);
  EXPECT_EQ(call("[]").status, 400);
  EXPECT_EQ(call(R"({"model":"e","model":"x"})").status, 400);
  EXPECT_EQ(call(R"({"messages":[]})").status, 400);
  RouteTable bad = table;
  bad.endpoints.push_back(bad.endpoints[0]);
  EXPECT_THROW(gateway->set_routes(bad), Error);
  EXPECT_EQ(call(chat("e")).status, 200);
  // A body of another kind goes through by the endpoint's path.
  const Reply reply =
      ask(gateway->port(),
          "POST /endpoints/e/v1/nothing HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-k\r\n"
          "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi");
  EXPECT_EQ(reply.status, 404);  // the replica's
}

TEST_F(GatewayTest, DrainFinishesStreams) {
  start(1, {.token = milliseconds(5)});
  RawClient client(gateway->port());
  client.send(post("/v1/chat/completions", chat("e", R"(,"stream":true,"max_tokens":60)"), with_key("sk-k")));
  ASSERT_TRUE(client.read_until("word"));
  gateway->drain(milliseconds(10'000));
  EXPECT_THAT(client.read_reply().body, HasSubstr("[DONE]"));
  thread.join();
  ASSERT_EQ(sink.records().size(), 1u);
  EXPECT_GE(sink.records()[0].replica_ms, 59 * 5);
}

}  // namespace
}  // namespace neutrino::cloud
