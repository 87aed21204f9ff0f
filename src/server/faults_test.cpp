// A fault in every stage of a request, of every kind: whoever asked gets an end, the server tells how it is, and the books balance.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "base/fault.h"
#include "base/log.h"
#include "chat/chat_template.h"
#include "chat/testing/list_tokenizer.h"
#include "engine/local_chat_model.h"
#include "engine/testing/fake_model.h"
#include "server/testing/test_replica.h"

namespace neutrino::server::testing {
namespace {

using net::testing::Reply;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kWatchdog{400};
constexpr int32_t kEnd = 63;

std::vector<std::string> words() {
  std::vector<std::string> tokens;
  for (int i = 0; i < kEnd; ++i) tokens.push_back(fmt::format("w{:02} ", i));
  tokens.push_back("<|end|>");
  return tokens;
}

chat::ChatModelInfo model_info() {
  chat::ChatModelInfo info;
  info.name = "fake";
  info.context_tokens = 1024;
  info.vocab_size = 64;
  info.has_chat_template = true;
  return info;
}

// A replica over a real engine with a model that is quick.
class Replica {
 public:
  explicit Replica(milliseconds watchdog = kWatchdog)
      : engine_(model_, backend_, {.end_tokens = {kEnd}}, metrics_, clock_),
        chat_(
            engine_, tokenizer_, [this](const chat::Conversation& c) { return template_.render(c); },
            model_info()) {
    spdlog::set_level(spdlog::level::off);
    ReplicaOptions options;
    options.http.port = 0;
    options.http.tick = milliseconds(10);
    options.request_log = "/dev/null";
    options.watchdog = watchdog;
    options.on_hang = [this] { ended_ = true; };
    engine_.start();
    server_ = std::make_unique<ReplicaServer>(chat_, metrics_, std::move(options));
    server_->listen();
    thread_ = std::thread([this] { server_->run(); });
  }
  ~Replica() {
    arm_faults("");
    server_->stop();
    thread_.join();
    engine_.stop();
  }

  int port() const { return server_->port(); }
  bool ended() const { return ended_; }
  bool dead() const { return engine_.status().dead; }
  Reply chat(bool stream) const {
    return net::testing::ask(
        port(), net::testing::post(
                    "/v1/chat/completions",
                    chat_body(fmt::format(R"("max_tokens":30,"ignore_eos":true,"stream":{})", stream))));
  }
  int ready() const { return net::testing::ask(port(), net::testing::get("/v1/health/ready")).status; }

  // The sum of a metric's series.
  double metric(std::string_view name) {
    const std::string text = metrics_.text();
    double sum = 0;
    for (size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
      const char next = text[at + name.size()];
      if ((at == 0 || text[at - 1] == '\n') && (next == ' ' || next == '{'))
        sum += std::stod(text.substr(text.rfind(' ', text.find('\n', at))));
    }
    return sum;
  }
  bool books_balance() {
    return metric("neutrino_http_requests_accepted_total") == metric("http_requests_total") &&
           metric("neutrino_sequences_accepted_total") == metric("vllm:request_success_total");
  }

 private:
  engine::testing::FakeModel model_{64, 1024};
  engine::testing::FakeBackend backend_;
  chat::testing::ListTokenizer tokenizer_{words()};
  chat::ChatTemplate template_{"w05 w09 w11 ", "", ""};
  Metrics metrics_;
  SystemClock clock_;
  engine::Engine engine_;
  engine::LocalChatModel chat_;
  std::unique_ptr<ReplicaServer> server_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

// How an answer ended: with all of it, with an error that says so, or not at all.
enum class End { whole, error, none };

End end_of(const Reply& reply, bool stream) {
  if (reply.status >= 400 && reply.complete && reply.body.find("\"error\"") != std::string::npos)
    return End::error;
  if (reply.status != 200) return End::none;
  if (!stream) return reply.complete ? End::whole : End::none;
  const Events events = parse_events(reply.body);
  if (events.done) return End::whole;
  return !events.items.empty() && events.items.back().contains("error") ? End::error : End::none;
}

struct Outcome {
  int whole = 0, errors = 0, none = 0;
  milliseconds longest{0};
};

// Two streams and two whole answers, side by side.
Outcome ask_four(const Replica& replica) {
  const auto start = steady_clock::now();
  std::vector<std::future<End>> ends;
  for (int i = 0; i < 4; ++i)
    ends.push_back(std::async(std::launch::async, [&replica, stream = i % 2 == 0] {
      return end_of(replica.chat(stream), stream);
    }));
  Outcome outcome;
  for (auto& end : ends) {
    const End how = end.get();
    ++(how == End::whole ? outcome.whole : how == End::error ? outcome.errors : outcome.none);
    outcome.longest = std::chrono::duration_cast<milliseconds>(steady_clock::now() - start);
  }
  return outcome;
}

struct Stage {
  const char* point;
  bool kills_engine;  // a bug in it ends the engine
  bool on_io_thread;
  int slow_at = 3;  // from this arrival on: some are passed for each token
};

constexpr Stage kStages[] = {
    {"http_read", false, true},         {"request_parse", false, false},  {"chat_template", false, false},
    {"tokenize", false, false},         {"engine_submit", false, true},   {"engine_step", true, false, 28},
    {"engine_sample", true, false, 28}, {"detokenize", false, true, 116}, {"http_write", false, true, 20},
};

TEST(Faults, NoneMeansNoError) {
  Replica replica;
  const Outcome outcome = ask_four(replica);
  EXPECT_EQ(outcome.whole, 4);
  EXPECT_EQ(replica.ready(), 200);
  EXPECT_TRUE(eventually([&] { return replica.books_balance(); }));
  EXPECT_GE(replica.metric("neutrino_http_requests_accepted_total"), 5);
  EXPECT_EQ(replica.metric("neutrino_sequences_accepted_total"), 4);
}

// The faults themselves are compiled into debug and tsan builds only.
#ifdef NEUTRINO_FAULTS

TEST(Faults, ABugInAStageEndsItsRequestOrTheEngine) {
  for (const Stage& stage : kStages) {
    SCOPED_TRACE(stage.point);
    Replica replica(milliseconds(0));
    arm_faults(fmt::format("{}:throw@2", stage.point));
    const Outcome outcome = ask_four(replica);
    EXPECT_EQ(outcome.none, 0);
    EXPECT_GE(outcome.errors, 1);
    EXPECT_EQ(replica.dead(), stage.kills_engine);
    if (!stage.kills_engine) {
      EXPECT_EQ(outcome.errors, 1);
    }
    if (!stage.kills_engine) {
      EXPECT_EQ(replica.chat(true).status, 200);
    }
    EXPECT_TRUE(eventually([&] { return replica.books_balance(); }));
  }
}

TEST(Faults, WhatHangsEndsEveryStreamWithinASecondOfTheLimit) {
  for (const Stage& stage : kStages) {
    SCOPED_TRACE(stage.point);
    Replica replica;
    arm_faults(fmt::format("{}:hang@3", stage.point));
    // Asked on a connection from before, as the server is gone soon after its last words.
    net::testing::RawClient probe(replica.port());
    std::future<int> ready;
    if (!stage.on_io_thread)
      ready = std::async(std::launch::async, [&] {
        eventually([&] { return replica.dead(); });
        return probe.send(net::testing::get("/v1/health/ready")) ? probe.read_reply().status : 0;
      });
    const Outcome outcome = ask_four(replica);
    EXPECT_EQ(outcome.none, 0);
    EXPECT_GE(outcome.errors, 1);
    EXPECT_LE(outcome.longest, kWatchdog + milliseconds(1000));
    if (ready.valid()) {
      EXPECT_THAT(ready.get(), ::testing::AnyOf(503, 0));
    }
    EXPECT_TRUE(eventually([&] { return replica.ended(); }));  // where `serve` ends the process
    arm_faults("");
    EXPECT_TRUE(eventually([&] { return replica.books_balance(); }));
  }
}

TEST(Faults, WhatIsSlowBreaksNothing) {
  for (const Stage& stage : kStages) {
    SCOPED_TRACE(stage.point);
    Replica replica(milliseconds(5000));
    arm_faults(fmt::format("{}:slow@{}", stage.point, stage.slow_at));
    EXPECT_EQ(ask_four(replica).whole, 4);
    EXPECT_EQ(replica.ready(), 200);
    EXPECT_FALSE(replica.ended());
    arm_faults("");
    EXPECT_TRUE(eventually([&] { return replica.books_balance(); }));
  }
}

#endif

}  // namespace
}  // namespace neutrino::server::testing
