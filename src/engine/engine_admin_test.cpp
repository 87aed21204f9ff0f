// Sleep, and prefixes that leave the cache for a file and come back, with a real tiny model and an engine on its thread.
#include <gtest/gtest.h>

#include <fstream>

#include "base/file.h"
#include "engine/engine.h"
#include "engine/testing/fake_model.h"
#include "engine/testing/loaded_model.h"

namespace neutrino::engine {
namespace {

constexpr int64_t kPromptTokens = 100;  // three whole blocks and a bit

struct Running {
  explicit Running(EngineOptions options = {})
      : loaded(testing::tiny_model_path("q4_1"), {.threads = 1}),
        engine(*loaded.model, *loaded.backend, with_name(std::move(options)), metrics, clock) {
    engine.start();
  }
  static EngineOptions with_name(EngineOptions options) {
    options.max_sequences = 2;
    if (options.fingerprint.empty()) options.fingerprint = "fp_test";
    return options;
  }

  struct Outcome {
    std::vector<int32_t> tokens;
    int64_t cached = 0;
  };
  Outcome ask(const std::string& salt = "") {
    chat::GenerationRequest request{
        .id = "t", .prompt = prompt(), .sampling = {.temperature = 0, .max_tokens = 5}};
    request.cache_salt = salt;
    const SequencePtr sequence = engine.submit(std::move(request));
    while (!sequence->stream.finished()) sequence->stream.wait(sequence->stream.version());
    return {testing::generated_tokens(sequence->stream), sequence->cached_tokens};
  }
  static std::vector<int32_t> prompt() {
    std::vector<int32_t> tokens;
    for (int32_t i = 0; i < kPromptTokens; ++i) tokens.push_back(3 + i * 7 % 90);
    return tokens;
  }
  void sleep() {
    engine.fall_asleep();
    engine.sleep();
  }

  testing::LoadedModel loaded;
  Metrics metrics;
  SystemClock clock;
  Engine engine;
};

template <typename F>
Error error_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "nothing was thrown");
}

std::filesystem::path file_path() {
  return std::filesystem::path(::testing::TempDir()) / "engine_admin.prefix";
}

TEST(EngineAdmin, SleepForgetsAndRefusesAndWakingServesAgain) {
  Running running;
  const auto before = running.ask();
  EXPECT_EQ(running.ask().cached, 96);
  EXPECT_EQ(error_of([&] { running.engine.sleep(); }).code(),
            ErrorCode::failed_precondition);  // not asked to
  running.engine.fall_asleep();
  EXPECT_GT(running.engine.sleep(), 0);
  EXPECT_EQ(running.engine.sleep_state(), chat::SleepState::asleep);
  EXPECT_EQ(error_of([&] { running.ask(); }).reason(), "sleeping");
  const auto blocks = running.engine.status().blocks[0];
  EXPECT_EQ(blocks.referenced + blocks.cached, 0);
  running.engine.wake_up();
  const auto after = running.ask();
  EXPECT_EQ(after.cached, 0);
  EXPECT_EQ(after.tokens, before.tokens);
}

TEST(EngineAdmin, APrefixComesBackFromItsFile) {
  std::vector<int32_t> expected;
  {
    Running first;
    expected = first.ask("salt").tokens;
    const PrefixFile prefix = first.engine.copy_prefix(Running::prompt(), "salt");
    EXPECT_EQ(std::ssize(prefix.tokens), 96);
    EXPECT_EQ(error_of([&] { first.engine.copy_prefix(Running::prompt(), "other"); }).code(),
              ErrorCode::failed_precondition);
    EXPECT_EQ(error_of([&] { write_prefix_file(file_path(), prefix, 1000); }).reason(), "prefix_store_full");
    EXPECT_GT(write_prefix_file(file_path(), prefix, 1 << 30), 0);
  }
  Running second;
  EXPECT_EQ(second.engine.adopt_prefix(read_prefix_file(file_path(), 1 << 30), "salt"), 96);
  EXPECT_EQ(second.engine.adopt_prefix(read_prefix_file(file_path(), 1 << 30), "salt"), 96);  // there already
  EXPECT_EQ(second.ask("other").cached, 0);
  const auto resumed = second.ask("salt");
  EXPECT_EQ(resumed.cached, 96);
  EXPECT_EQ(resumed.tokens, expected);

  Running stranger({.fingerprint = "fp_another"});
  EXPECT_EQ(
      error_of([&] { stranger.engine.adopt_prefix(read_prefix_file(file_path(), 1 << 30), ""); }).code(),
      ErrorCode::failed_precondition);
}

// Every byte counts: a file that was cut or changed anywhere is refused before anything in it is believed.
TEST(EngineAdmin, ADamagedFileIsRefused) {
  PrefixFile prefix{.fingerprint = "fp", .bytes_per_block = 64};
  prefix.tokens.assign(static_cast<size_t>(compute::kBlockPositions), 7);
  prefix.data.assign(64, std::byte{1});
  write_prefix_file(file_path(), prefix, 1 << 20);
  const std::string good = read_file(file_path(), 1 << 20);
  EXPECT_EQ(read_prefix_file(file_path(), 1 << 20).tokens, prefix.tokens);
  const auto refused = [&](const std::string& bytes) {
    std::ofstream(file_path(), std::ios::binary) << bytes;
    return error_of([&] { read_prefix_file(file_path(), 1 << 20); }).code() == ErrorCode::data_loss;
  };
  for (size_t i = 0; i < good.size(); i += 3) {
    std::string changed = good;
    changed[i] = static_cast<char>(changed[i] ^ 0x20);
    EXPECT_TRUE(refused(changed)) << i;
    EXPECT_TRUE(refused(good.substr(0, i))) << i;
  }
  EXPECT_TRUE(refused(good + "x"));
  std::filesystem::remove(file_path());
  EXPECT_EQ(error_of([&] { read_prefix_file(file_path(), 1 << 20); }).code(), ErrorCode::not_found);
}

}  // namespace
}  // namespace neutrino::engine
