// Clients that go away: 64 of them, ten rounds, each at some point of its generation's life. Whatever the point, the blocks
// come back.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/random.h"
#include "chat/testing/list_tokenizer.h"
#include "engine/local_chat_model.h"
#include "engine/testing/block_manager_fault.h"
#include "engine/testing/fake_model.h"

namespace neutrino::engine {
namespace {

constexpr int64_t kClients = 64, kRounds = 10, kVocabulary = 64;

enum class Phase { queue, prefill, decode, finished };

// A client either polls as it goes (stream) or would only look at the end.
enum class Reading { stream, all_at_once };

struct Client {
  std::unique_ptr<chat::Generation> generation;
  std::string id;
  Reading reading = Reading::stream;
  int64_t leaves_at = 0;  // step of the round
};

using Kind = testing::FakeModel::Kind;

class Rounds {
 public:
  explicit Rounds(Kind kind) : model_(kVocabulary, 1024, kind) {}

  std::map<Phase, int64_t> left_in;  // how many clients left in which phase
  int64_t left_without_stream = 0;

  // Runs all rounds; `after_leaving` may tamper with the blocks of a sequence whose client has just gone.
  void run(const std::function<void(const BlockManager&, const Sequence&)>& after_leaving = nullptr) {
    for (int64_t round = 0; round < kRounds; ++round) {
      std::vector<Client> clients = arrive(round);
      for (int64_t step = 0; !clients.empty(); ++step) {
        for (Client& client : clients)
          if (client.leaves_at <= step) leave(client, after_leaving);
        std::erase_if(clients, [](const Client& client) { return client.generation == nullptr; });
        engine_.step();
        for (Client& client : clients)
          if (client.reading == Reading::stream) client.generation->poll();
      }
    }
    while (engine_.step()) {
    }
  }

  size_t groups() const { return engine_.kv_plan().groups().size(); }
  BlockCounts blocks(size_t group) const { return engine_.blocks(group).counts(); }
  int64_t total(size_t group) const { return engine_.blocks(group).total(); }

 private:
  std::vector<Client> arrive(int64_t round) {
    std::vector<Client> clients(kClients);
    for (int64_t i = 0; i < kClients; ++i) {
      Client& client = clients[static_cast<size_t>(i)];
      client.id = fmt::format("{}-{}", round, i);
      client.reading = i % 2 == 0 ? Reading::stream : Reading::all_at_once;
      client.leaves_at = random_.between(0, 60);
      std::vector<int32_t> prompt;
      for (int64_t n = random_.between(4, 300); n > 0; --n)
        prompt.push_back(static_cast<int32_t>(random_.below(kVocabulary)));
      client.generation = chat_.generate(
          {.id = client.id, .prompt = prompt, .sampling = {.max_tokens = random_.between(1, 100)}});
    }
    return clients;
  }

  void leave(Client& client, const std::function<void(const BlockManager&, const Sequence&)>& after_leaving) {
    const Sequence* sequence = find(client.id);
    ++left_in[phase(sequence)];
    if (client.reading == Reading::all_at_once && sequence != nullptr) ++left_without_stream;
    client.generation.reset();
    if (after_leaving && sequence != nullptr) after_leaving(engine_.blocks(groups() - 1), *sequence);
  }

  const Sequence* find(const std::string& id) const {
    for (const auto sequences : {engine_.scheduler().running(), engine_.scheduler().waiting()})
      for (const SequencePtr& sequence : sequences)
        if (sequence->id == id) return sequence.get();
    return nullptr;
  }

  static Phase phase(const Sequence* sequence) {
    if (sequence == nullptr) return Phase::finished;
    if (sequence->queued) return Phase::queue;
    return sequence->generated() == 0 ? Phase::prefill : Phase::decode;
  }

  Random random_{7};
  testing::FakeModel model_;
  testing::FakeBackend backend_;
  chat::testing::ListTokenizer tokenizer_{std::vector<std::string>(kVocabulary, "x")};
  Metrics metrics_;
  SimulatedClock clock_;
  Engine engine_{model_,
                 backend_,
                 {.max_sequences = 16,
                  .batch_tokens = 64,
                  .kv_blocks = 100,
                  .queued_requests_max = kClients,
                  .queued_tokens_max = 1 << 20},
                 metrics_,
                 clock_};
  LocalChatModel chat_{engine_, tokenizer_, nullptr, {}};
};

class Disconnect : public ::testing::TestWithParam<Kind> {};
INSTANTIATE_TEST_SUITE_P(Kind, Disconnect, ::testing::Values(Kind::attention, Kind::windowed));

TEST_P(Disconnect, BlocksComeBackFromEveryPhase) {
  Rounds rounds(GetParam());
  rounds.run();
  for (const Phase phase : {Phase::queue, Phase::prefill, Phase::decode})
    EXPECT_GT(rounds.left_in[phase], 10) << "phase " << static_cast<int>(phase);
  EXPECT_GT(rounds.left_without_stream, 10);
  for (size_t group = 0; group < rounds.groups(); ++group) {
    EXPECT_EQ(rounds.blocks(group).referenced, 0);
    EXPECT_EQ(rounds.blocks(group).cached + rounds.blocks(group).free, rounds.total(group));
  }
  fmt::print(
      "disconnects: {} in the queue, {} in prefill, {} in decode, {} of them without a stream, {} too late\n",
      rounds.left_in[Phase::queue], rounds.left_in[Phase::prefill], rounds.left_in[Phase::decode],
      rounds.left_without_stream, rounds.left_in[Phase::finished]);
}

TEST_P(Disconnect, AVariantThatForgetsToFreeIsFound) {
  Rounds rounds(GetParam());
  const size_t group = rounds.groups() - 1;
  int64_t forgotten = 0;
  rounds.run([&](const BlockManager& blocks, const Sequence& sequence) {
    if (forgotten > 0 || sequence.tables[group].held() == 0) return;
    BlockManagerFault::forget_release(blocks, sequence.tables[group].blocks.back());
    ++forgotten;
  });
  EXPECT_EQ(forgotten, 1);
  EXPECT_EQ(rounds.blocks(group).referenced, 1);
}

}  // namespace
}  // namespace neutrino::engine
