// What happens when things go away: clients in every state, the engine, room in the queue, the server itself.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using chat::testing::Script;
using net::testing::RawClient;
using net::testing::Reply;
using std::chrono::milliseconds;

constexpr std::string_view kChat = "/v1/chat/completions";

enum class State { queued, prefill, decode, whole };

// Sends a request, waits until it is in the state, and leaves. Returns false if the state was not reached.
bool leave_in(TestReplica& replica, State state, bool leave) {
  const size_t before = replica.model().requests().size();
  Script script{.pieces = {"a", "b"}, .delay = milliseconds(1), .stall = true};
  if (state != State::decode) script.first_delay = std::chrono::hours(1);  // the fake's queue and prefill
  replica.model().add_script(script);
  RawClient client(replica.port(), milliseconds(2000));
  client.send(net::testing::post(kChat, chat_body(state == State::whole ? "" : R"("stream":true)")));
  if (!eventually([&] { return replica.model().requests().size() == before + 1; })) return false;
  if (state == State::prefill && !client.read_until("assistant"))
    return false;  // the first event is out, no token yet
  if (state == State::decode && !client.read_until(R"("content":"a)")) return false;
  const int64_t active = replica.model().active();
  if (leave) client.close();
  const bool freed =
      eventually([&] { return replica.model().active() == active - 1; }, milliseconds(leave ? 5000 : 300));
  return freed == leave;
}

TEST(Disconnects, CancelTheGenerationInEveryState) {
  TestReplica replica;
  for (const State state : {State::queued, State::prefill, State::decode, State::whole})
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(leave_in(replica, state, true)) << static_cast<int>(state);
  EXPECT_EQ(replica.model().cancelled(), 20);
  EXPECT_EQ(replica.model().active(), 0);
}

// Negative control: a client that stays keeps its generation, so the test above measures the leaving.
TEST(Disconnects, StayingKeepsTheGeneration) {
  for (const State state : {State::queued, State::prefill, State::decode, State::whole}) {
    TestReplica replica;
    EXPECT_TRUE(leave_in(replica, state, false)) << static_cast<int>(state);
  }
}

TEST(Disconnects, SixtyFourClientsAtOnceLeaveNothing) {
  TestReplica replica;
  constexpr int kClients = 64;
  for (int i = 0; i < kClients; ++i)
    replica.model().add_script({.pieces = {"a"}, .first_delay = milliseconds(i % 7), .stall = true});
  std::vector<std::thread> clients;
  for (int i = 0; i < kClients; ++i)
    clients.emplace_back([&, i] {
      RawClient client(replica.port());
      client.send(net::testing::post(kChat, chat_body(i % 2 ? R"("stream":true)" : "")));
      std::this_thread::sleep_for(milliseconds(i % 13));
      if (i % 3 == 0) client.reset();
    });
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(eventually(
      [&] { return replica.model().active() == 0 && replica.server().requests_in_flight() == 0; }));
  EXPECT_EQ(replica.post(kChat, chat_body()).status, 200);
}

TEST(Overload, Is429WithTheTimeToComeBack) {
  TestReplica replica;
  replica.model().set_status({.ready = true, .queue_drain_seconds = 7.2});
  replica.model().refuse_next(
      Error(ErrorCode::resource_exhausted, "the queue is full").with_reason("queue_full"));
  const Reply reply = replica.post(kChat, chat_body(R"("stream":true)"));
  EXPECT_EQ(reply.status, 429);
  EXPECT_EQ(reply.headers.at("retry-after"), "8");
  EXPECT_EQ(reply.headers.at("retry-after-ms"), "7200");
  EXPECT_EQ(reply.headers.at("x-should-retry"), "true");
  const json::value error = parse_json(reply.body).at("error");
  EXPECT_EQ(error.at("type"), "rate_limit_error");
  EXPECT_EQ(error.at("code"), "queue_full");
}

TEST(Overload, RetryAfterStaysBetweenOneAndSixtySeconds) {
  for (const auto& [drain, expected] : {std::pair{0.0, "1"}, {1e9, "60"}, {-5.0, "1"}}) {
    TestReplica replica;
    replica.model().set_status({.ready = true, .queue_drain_seconds = drain});
    replica.model().refuse_next(Error(ErrorCode::resource_exhausted, "full").with_reason("queue_full"));
    EXPECT_EQ(replica.post(kChat, chat_body()).headers.at("retry-after"), expected);
  }
}

TEST(Overload, ARefusedChoiceTakesItsSiblingsBack) {
  TestReplica replica;
  replica.model().add_script({.stall = true});
  replica.model().refuse_next(Error(ErrorCode::resource_exhausted, "full").with_reason("queue_full"));
  EXPECT_EQ(replica.post(kChat, chat_body(R"("n":3)")).status, 429);
  EXPECT_TRUE(eventually([&] { return replica.model().active() == 0; }));
}

TEST(DeadEngine, TellsEveryStreamAndEndsTheServer) {
  TestReplica replica;
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 4; ++i) {
    replica.model().add_script({.pieces = {"a"}, .stall = true});
    clients.push_back(std::make_unique<RawClient>(replica.port()));
    clients.back()->send(net::testing::post(kChat, chat_body(R"("stream":true)")));
    ASSERT_TRUE(clients.back()->read_until(R"("content":"a")"));
  }
  const auto start = std::chrono::steady_clock::now();
  replica.model().kill(Error(ErrorCode::unavailable, "the engine has failed").with_reason("engine_dead"));
  for (const auto& client : clients) {
    EXPECT_TRUE(client->read_until("engine_dead"));
    EXPECT_TRUE(client->closed_by_peer());
    EXPECT_EQ(client->seen().find("[DONE]"), std::string::npos);
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
  EXPECT_TRUE(eventually([&] { return !replica.running(); }));
}

TEST(Drain, FinishesEveryAnswerThatHasBegun) {
  TestReplica replica;
  constexpr int kStreams = 16;
  for (int i = 0; i < kStreams; ++i)
    replica.model().add_script({.pieces = std::vector<std::string>(20, "word "), .delay = milliseconds(20)});
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < kStreams; ++i) {
    clients.push_back(std::make_unique<RawClient>(replica.port()));
    clients.back()->send(net::testing::post(kChat, chat_body(i % 2 ? R"("stream":true)" : "")));
  }
  ASSERT_TRUE(eventually([&] { return replica.model().requests().size() == kStreams; }));
  replica.server().drain(std::chrono::seconds(30));
  ASSERT_TRUE(eventually([&] { return replica.get("/v1/health/ready").status == 503; }));
  EXPECT_EQ(replica.get("/v1/health/live").status, 200);
  const Reply late = replica.post(kChat, chat_body());
  EXPECT_EQ(late.status, 503);
  EXPECT_EQ(parse_json(late.body).at("error").at("code"), "draining");
  EXPECT_TRUE(late.headers.contains("retry-after"));
  for (int i = 0; i < kStreams; ++i) {
    const Reply reply = clients[static_cast<size_t>(i)]->read_reply();
    EXPECT_EQ(reply.status, 200);
    EXPECT_TRUE(reply.complete);
    if (i % 2) {
      EXPECT_TRUE(parse_events(reply.body).done);
    } else {
      EXPECT_NE(reply.body.find("word word"), std::string::npos);
    }
  }
  EXPECT_TRUE(eventually([&] { return !replica.running(); }));
}

TEST(Drain, AtTheEndOfTheGraceStreamsGetAnError) {
  TestReplica replica;
  replica.model().add_script({.pieces = {"a"}, .stall = true});
  replica.model().add_script({.stall = true});
  RawClient stream(replica.port()), whole(replica.port());
  stream.send(net::testing::post(kChat, chat_body(R"("stream":true)")));
  ASSERT_TRUE(stream.read_until(R"("content":"a")"));
  whole.send(net::testing::post(kChat, chat_body()));
  ASSERT_TRUE(eventually([&] { return replica.model().requests().size() == 2; }));
  replica.server().drain(std::chrono::seconds(60));
  std::this_thread::sleep_for(milliseconds(50));
  EXPECT_TRUE(replica.running());
  replica.server().stop();  // the second signal: now
  EXPECT_TRUE(stream.read_until(R"("code":"draining")"));
  EXPECT_EQ(stream.seen().find("[DONE]"), std::string::npos);
  EXPECT_EQ(whole.read_reply().status, 503);
  EXPECT_TRUE(eventually([&] { return !replica.running(); }));
}

}  // namespace
}  // namespace neutrino::server::testing
