// Adapters in the engine: many in one batch with the bits of each alone, blocks that different contents never share, unloading
// and reloading while requests run, and the limits.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "chat/testing/list_tokenizer.h"
#include "engine/adapter_folder.h"
#include "engine/adapters.h"
#include "engine/engine.h"
#include "engine/local_chat_model.h"
#include "engine/testing/loaded_model.h"
#include "weights/testing/safetensors_writer.h"
#include "weights/testing/temporary_folder.h"

namespace neutrino::engine {
namespace {

using chat::IfLoaded;
using weights::testing::StImage;

// A PEFT folder for the tiny llama: hidden size 64, 4 heads over 2, two layers.
void write_peft(const std::filesystem::path& folder, uint64_t seed, int64_t rank = 4, float scale = 0.5f) {
  std::filesystem::create_directories(folder);
  Random random(seed);
  StImage image;
  for (const std::string layer : {"0", "1"})
    for (const auto& [module, rows] :
         {std::pair{"self_attn.q_proj", 64}, {"self_attn.v_proj", 32}, {"self_attn.o_proj", 64}}) {
      const std::string name = "base_model.model.model.layers." + layer + "." + module;
      image.tensors.push_back(
          weights::testing::random_tensor(random, name + ".lora_A.weight", "F32", {rank, 64}, scale));
      image.tensors.push_back(
          weights::testing::random_tensor(random, name + ".lora_B.weight", "F32", {rows, rank}, scale));
    }
  std::ofstream(folder / "adapter_model.safetensors", std::ios::binary | std::ios::trunc) << serialise(image);
  std::ofstream(folder / "adapter_config.json", std::ios::trunc)
      << fmt::format(R"({{"peft_type":"LORA","r":{},"lora_alpha":{}}})", rank, rank);
}

class ServedAdapters : public ::testing::Test {
 protected:
  ServedAdapters()
      : loaded_(testing::tiny_model_path("f32"), {.threads = 2}),
        adapters_(*loaded_.file, *loaded_.backend, {}, metrics_) {
    spdlog::set_level(spdlog::level::err);
    restart({});
  }
  void restart(EngineOptions options) {
    engine_.reset();
    options.adapter_rank_max = adapters_.options().rank_max;
    if (options.kv_blocks == 0) options.kv_blocks = 256;
    engine_ = std::make_unique<Engine>(*loaded_.model, *loaded_.backend, options, metrics_, clock_);
  }
  std::filesystem::path path(std::string_view name) const { return folder_.path() / name; }
  LoadedAdapterPtr load(const std::string& name, uint64_t seed) {
    write_peft(path(name), seed);
    return adapters_.load(name, path(name), IfLoaded::replace);
  }
  static chat::GenerationRequest request(chat::AdapterPtr adapter, int64_t prompt = 70,
                                         int64_t max_tokens = 12) {
    chat::GenerationRequest request{
        .id = "r",
        .sampling = {.temperature = 0, .ignore_eos = true, .max_tokens = max_tokens, .logprobs = 2},
        .adapter = std::move(adapter)};
    for (int64_t i = 0; i < prompt; ++i) request.prompt.push_back(static_cast<int32_t>(i * 7 % 300));
    return request;
  }
  SequencePtr submit(chat::AdapterPtr adapter, int64_t prompt = 70) {
    return engine_->submit(request(adapter, prompt));
  }
  void run() {
    while (engine_->step()) {
    }
  }
  // Ids and log probabilities: their bits tell every difference.
  static std::vector<std::pair<int32_t, float>> tokens(const Sequence& sequence) {
    EXPECT_TRUE(sequence.stream.finished());
    std::vector<std::pair<int32_t, float>> all;
    for (int64_t i = 0; i < sequence.stream.size(); ++i) {
      all.emplace_back(sequence.stream.record(i).token, sequence.stream.record(i).logprob);
      for (const auto& top : sequence.stream.top(i)) all.emplace_back(top.token, top.logprob);
    }
    return all;
  }
  auto alone(const chat::AdapterPtr& adapter) {
    restart({.prefix_cache = PrefixCache::off});
    const SequencePtr sequence = submit(adapter);
    run();
    return tokens(*sequence);
  }

  weights::testing::TemporaryFolder folder_;
  Metrics metrics_;
  SystemClock clock_;
  testing::LoadedModel loaded_;
  Adapters adapters_;
  std::unique_ptr<Engine> engine_;
};

TEST_F(ServedAdapters, EightInOneBatchHaveTheBitsOfEachAlone) {
  std::vector<chat::AdapterPtr> all = {nullptr};
  for (uint64_t i = 0; i < 8; ++i) all.push_back(load(fmt::format("a{}", i), i + 1));
  std::vector<std::vector<std::pair<int32_t, float>>> expected;
  for (const auto& adapter : all) expected.push_back(alone(adapter));
  for (size_t i = 1; i < all.size(); ++i) EXPECT_NE(expected[i], expected[i - 1]) << i;
  restart({.max_sequences = 16, .batch_tokens = 48});
  for (int round = 0; round < 2; ++round) {  // the second finds its blocks in the prefix cache
    std::vector<SequencePtr> sequences;
    for (const auto& adapter : all) sequences.push_back(submit(adapter));
    run();
    for (size_t i = 0; i < all.size(); ++i) {
      EXPECT_EQ(tokens(*sequences[i]), expected[i]) << i << ", round " << round;
      EXPECT_EQ(sequences[i]->cached_tokens, round == 0 ? 0 : 64) << "contents share their own blocks only";
    }
  }
}

TEST_F(ServedAdapters, SayHowManyGenerationsUseThem) {
  const chat::AdapterPtr adapter = load("a", 1);
  restart({.max_sequences = 1});
  const SequencePtr first = submit(adapter), second = submit(adapter), base = submit(nullptr);
  engine_->step();
  EXPECT_EQ(adapter->running(), 1);
  EXPECT_EQ(adapter->waiting(), 1);
  engine_->end(*second, EndRequest::cancelled);
  engine_->step();
  EXPECT_EQ(adapter->waiting(), 0);
  run();
  EXPECT_EQ(adapter->running(), 0);
}

// The same name with other contents, while a request runs with the old ones.
TEST_F(ServedAdapters, ReloadingOtherContentsUnderANameIsSafe) {
  const LoadedAdapterPtr first = load("tuned", 1);
  const auto of_first = alone(first);
  const auto of_second = alone(load("other", 2));
  restart({});
  const SequencePtr before = submit(first);
  engine_->step();
  engine_->step();
  adapters_.unload("tuned");
  EXPECT_EQ(adapters_.find("tuned"), nullptr);
  const LoadedAdapterPtr second = load("tuned", 2);
  EXPECT_NE(first->digest, second->digest);
  const SequencePtr after = submit(adapters_.find("tuned"));
  run();
  EXPECT_EQ(tokens(*before), of_first);
  EXPECT_EQ(tokens(*after), of_second);
  EXPECT_EQ(after->cached_tokens, 0);
  const SequencePtr again = submit(load("tuned", 1));  // and back: its blocks are still its own
  run();
  EXPECT_EQ(tokens(*again), of_first);
  EXPECT_EQ(again->cached_tokens, 64);
}

// Negative control of the test above: with one name for all contents, blocks of other contents would be found.
TEST_F(ServedAdapters, BlocksAreNamedByTheContents) {
  const LoadedAdapterPtr first = load("a", 1), second = load("b", 2), same = load("c", 1);
  EXPECT_EQ(first->digest, same->digest);
  const SequencePtr a = submit(first);
  run();
  const SequencePtr b = submit(second), base = submit(nullptr), c = submit(same);
  run();
  EXPECT_EQ(b->cached_tokens, 0);
  EXPECT_EQ(base->cached_tokens, 0);
  EXPECT_EQ(c->cached_tokens, 64) << "the same contents under another name";
  EXPECT_EQ(tokens(*c), tokens(*a));
}

TEST_F(ServedAdapters, LoadedAndUnloadedUnderLoad) {
  for (uint64_t i = 0; i < 3; ++i) write_peft(path(fmt::format("f{}", i)), i + 1);
  std::vector<std::vector<std::pair<int32_t, float>>> expected;
  for (uint64_t i = 0; i < 3; ++i)
    expected.push_back(
        alone(adapters_.load(fmt::format("x{}", i), path(fmt::format("f{}", i)), IfLoaded::refuse)));
  restart({});
  engine_->start();
  std::atomic<bool> done = false;
  std::thread loader([&] {
    for (uint64_t round = 0; !done; ++round) {
      adapters_.load("turning", path(fmt::format("f{}", round % 3)), IfLoaded::replace);
      if (round % 4 == 3) adapters_.unload("turning");
    }
  });
  std::map<std::string, size_t> by_digest;
  for (size_t i = 0; i < 3; ++i) by_digest[adapters_.find(fmt::format("x{}", i))->digest] = i;
  int64_t served = 0;
  while (served < 60) {
    const LoadedAdapterPtr adapter = adapters_.find("turning");
    if (!adapter) continue;
    const SequencePtr sequence = submit(adapter);
    while (!sequence->stream.finished()) std::this_thread::yield();
    EXPECT_EQ(tokens(*sequence), expected[by_digest.at(adapter->digest)]);
    ++served;
  }
  done = true;
  loader.join();
  engine_->stop();
}

TEST_F(ServedAdapters, LimitsAreNamedAndMemoryComesBack) {
  Adapters few(*loaded_.file, *loaded_.backend, {.count_max = 2, .rank_max = 8, .bytes_max = 200'000},
               metrics_);
  const auto refused = [&](const std::string& name, const std::string& what) {
    try {
      few.load(name, path("f"), IfLoaded::refuse);
      ADD_FAILURE() << what;
    } catch (const Error& error) {
      EXPECT_NE(error.message().find(what), std::string::npos) << error.message();
    }
  };
  write_peft(path("f"), 1, 9);
  refused("a", "rank 9");
  write_peft(path("f"), 1, 4);
  auto held = few.load("a", path("f"), IfLoaded::refuse);
  EXPECT_EQ(few.bytes(), held->bytes);
  EXPECT_GT(held->bytes, held->parameters * 2 - 1);
  refused("a", "loaded already");
  few.load("b", path("f"), IfLoaded::refuse);
  refused("c", "--max-loras");
  refused("", "name");
  refused("two words", "name");
  few.unload("a");
  EXPECT_EQ(few.bytes(), 2 * held->bytes) << "somebody still holds it";
  held.reset();
  EXPECT_EQ(few.bytes(), few.find("b")->bytes);
  EXPECT_THROW(few.unload("a"), Error);

  Adapters small(*loaded_.file, *loaded_.backend, {.bytes_max = 1000}, metrics_);
  EXPECT_THROW(small.load("a", path("f"), IfLoaded::refuse), Error);
  EXPECT_EQ(small.bytes(), 0);
  EXPECT_THROW(small.load("a", path("nowhere"), IfLoaded::refuse), std::exception);
}

// ---- a watched folder

TEST_F(ServedAdapters, AFolderIsFollowed) {
  const chat::testing::ListTokenizer tokenizer({"a", "b"});
  LocalChatModel model(*engine_, tokenizer, {}, {}, &adapters_);
  const std::filesystem::path watched = path("watched");
  std::filesystem::create_directories(watched);
  AdapterFolder folder(model, watched);
  const auto names = [&] {
    std::string all;
    for (const auto& adapter : model.adapters()) all += adapter->name + " ";
    return all;
  };
  folder.refresh();
  EXPECT_EQ(names(), "");
  write_peft(watched / "one", 1);
  write_peft(watched / "two", 2);
  std::ofstream(watched / "note.txt") << "not an adapter";
  std::filesystem::create_directories(watched / "empty");
  write_peft(watched / "broken", 3);
  std::filesystem::resize_file(watched / "broken" / "adapter_model.safetensors", 100);  // still being copied
  folder.refresh();
  EXPECT_EQ(names(), "one two ");
  const auto digest = model.find_adapter("one")->digest;
  folder.refresh();
  EXPECT_EQ(model.find_adapter("one")->digest, digest);
  write_peft(watched / "one", 7, 5);
  write_peft(watched / "broken", 3);
  folder.refresh();
  EXPECT_EQ(names(), "broken one two ");
  EXPECT_NE(model.find_adapter("one")->digest, digest);
  std::filesystem::remove_all(watched / "two");
  folder.refresh();
  EXPECT_EQ(names(), "broken one ");
  write_peft(watched / "three", 4);
  folder.start(std::chrono::seconds(1));
  for (int i = 0; i < 500 && !model.find_adapter("three"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_NE(model.find_adapter("three"), nullptr);
  EXPECT_THROW(AdapterFolder(model, path("nowhere")), Error);
}

}  // namespace
}  // namespace neutrino::engine
