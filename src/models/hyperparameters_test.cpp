// Keys in the forms that files have them in: one value or one a layer, with what is missing in files that llama.cpp's converter
// made; RoPE's scalings against their definitions.

#include "models/hyperparameters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/error.h"
#include "models/rope.h"
#include "models/testing/changed_weights.h"
#include "models/testing/fake_weights.h"
#include "models/testing/golden_case.h"

namespace neutrino::models {
namespace {

using Integers = std::vector<int64_t>;
using testing::FakeWeights;

TEST(Hyperparameters, OneValueOrOneALayer) {
  FakeWeights file;
  EXPECT_EQ(read_layer_sizes(file, "attention.head_count_kv", 3, 1, 8), (Integers{2, 2, 2}));
  EXPECT_EQ(read_layer_sizes_or(file, "magic", 2, 0, 9, 7), (Integers{7, 7}));
  file.set("llama.attention.head_count_kv", Integers{1, 2, 4});
  EXPECT_EQ(read_layer_sizes(file, "attention.head_count_kv", 3, 1, 8), (Integers{1, 2, 4}));
  EXPECT_THROW(read_layer_sizes(file, "attention.head_count_kv", 2, 1, 8), Error);
  EXPECT_THROW(read_layer_sizes(file, "attention.head_count_kv", 4, 1, 8), Error);
  EXPECT_THROW(read_layer_sizes(file, "attention.head_count_kv", 3, 1, 3), Error);
  EXPECT_THROW(read_layer_sizes(file, "attention.head_count_kv", 3, 2, 8), Error);
  EXPECT_THROW(read_layer_sizes(file, "magic", 3, 0, 8), Error);
  file.set("llama.attention.head_count_kv", Integers{2, 2});
  EXPECT_EQ(read_common_config(file).num_key_value_heads, 2);
  file.set("llama.attention.head_count_kv", Integers{2, 4});
  EXPECT_THROW(read_common_config(file), Error);
  EXPECT_EQ(read_common_config(file, {.per_layer = true}).num_key_value_heads, 4);
}

TEST(Hyperparameters, Windows) {
  FakeWeights file;
  EXPECT_EQ(read_windows(file, 4, 2), (Integers{0, 0, 0, 0}));
  EXPECT_EQ(read_windows(file, 4, 2, 9), (Integers{9, 0, 9, 0}));  // without a window in the file
  file.set("llama.attention.sliding_window", int64_t{5});
  EXPECT_EQ(read_windows(file, 4, 0), (Integers{5, 5, 5, 5}));
  EXPECT_EQ(read_windows(file, 4, 1), (Integers{0, 0, 0, 0}));
  EXPECT_EQ(read_windows(file, 7, 3), (Integers{5, 5, 0, 5, 5, 0, 5}));
  file.set("llama.attention.sliding_window_pattern", int64_t{2});
  EXPECT_EQ(read_windows(file, 4, 3), (Integers{5, 0, 5, 0}));
  file.set("llama.attention.sliding_window_pattern", Integers{0, 1, 1});
  EXPECT_EQ(read_windows(file, 3, 3), (Integers{0, 5, 5}));
  EXPECT_THROW(read_windows(file, 4, 3), Error);
  file.set("llama.attention.sliding_window_pattern", Integers{0, 2, 1});
  EXPECT_THROW(read_windows(file, 3, 3), Error);
  file.set("llama.attention.sliding_window", int64_t{0});
  EXPECT_EQ(read_windows(file, 3, 3), (Integers{0, 0, 0}));
}

// llama.cpp's converter does not write keys of ours; its defaults must mean the same.
TEST(Hyperparameters, KeysThatLlamaCppDoesNotWrite) {
  const std::filesystem::path folder = NEUTRINO_SOURCE_DIR "/tests/golden/models";
  const auto backend = compute::make_cpu_backend({.arithmetic = compute::Arithmetic::float32, .threads = 1});
  for (const char* name : {"smollm3", "gemma3"}) {
    SCOPED_TRACE(name);
    const testing::GoldenCase golden = testing::read_golden_case(folder, name);
    const testing::TemporaryFolder checkpoint;
    testing::write_checkpoint(golden, checkpoint.path());
    const auto file = weights::open_weight_file(checkpoint.path());
    testing::ChangedWeights bare(*file);
    for (const char* key : {"smollm3.attention.rope_pattern", "gemma3.attention.sliding_window_pattern",
                            "gemma3.attention.scale", "gemma3.rope.freq_base_swa",
                            "gemma3.attn_logit_softcapping", "gemma3.final_logit_softcapping"})
      bare.erase(key);
    EXPECT_EQ(testing::run_tokens(*load_model(bare, *backend), *backend, golden.tokens),
              testing::run_tokens(*load_model(*file, *backend), *backend, golden.tokens));
    testing::ChangedWeights other(*file);  // and the keys are read where they stand
    other.set(std::string(name) +
                  (name[0] == 's' ? ".attention.rope_pattern" : ".attention.sliding_window_pattern"),
              Integers(file->metadata().integer(std::string(name) + ".block_count").value(), 1));
    EXPECT_NE(testing::run_tokens(*load_model(other, *backend), *backend, golden.tokens),
              testing::run_tokens(*load_model(*file, *backend), *backend, golden.tokens));
  }
}

TEST(Rope, LinearAndDivisors) {
  const auto plain = rope_frequencies(8, 10000, {});
  const auto linear = rope_frequencies(8, 10000, {.type = RopeScaling::Type::linear, .factor = 4});
  const auto divided = rope_frequencies(8, 10000, {.divisors = {1, 2, 3, 4}});
  for (int i = 0; i < 4; ++i) {
    EXPECT_DOUBLE_EQ(plain[i], std::pow(10.0, -i));
    EXPECT_DOUBLE_EQ(linear[i], plain[i] / 4);
    EXPECT_DOUBLE_EQ(divided[i], plain[i] / (i + 1));
  }
}

// Pairs that turn often keep their frequency, those that turn seldom are slowed down by the whole factor.
TEST(Rope, YarnGoesFromOneToTheFactor) {
  const RopeScaling yarn{.type = RopeScaling::Type::yarn, .factor = 8, .original_context = 4096};
  const auto plain = rope_frequencies(128, 10000, {}), scaled = rope_frequencies(128, 10000, yarn);
  double before = 1;
  for (size_t i = 0; i < plain.size(); ++i) {
    const double ratio = scaled[i] / plain[i], turns = 4096 * plain[i] / (2 * std::numbers::pi);
    EXPECT_LE(ratio, before);
    before = ratio;
    if (turns > 34) {
      EXPECT_DOUBLE_EQ(ratio, 1);
    } else if (turns < 0.9) {
      EXPECT_DOUBLE_EQ(ratio, 1.0 / 8);
    }
  }
  EXPECT_DOUBLE_EQ(before, 1.0 / 8);
}

TEST(Rope, BadScalingsAreErrors) {
  const auto scaling = [](const char* key, const weights::MetadataValue& value) {
    FakeWeights file;
    file.set("llama.rope.scaling.type", std::string("yarn"));
    file.set("llama.rope.scaling.factor", 2.0);
    file.set(key, value);
    return read_rope_scaling(file, read_common_config(file), 256);
  };
  EXPECT_NEAR(scaling("llama.magic", int64_t{0}).attention_factor, 1 + 0.1 * std::log(2), 1e-12);
  EXPECT_NEAR(scaling("llama.rope.scaling.yarn_log_multiplier", 0.1).attention_factor, 1, 1e-12);
  EXPECT_THROW(scaling("llama.rope.scaling.type", std::string("magic")), Error);
  EXPECT_THROW(scaling("llama.rope.scaling.type", std::string("longrope")),
               Error);  // its tensors are missing
  EXPECT_THROW(scaling("llama.rope.scaling.factor", 0.0), Error);
  EXPECT_THROW(scaling("llama.rope.scaling.factor", std::nan("")), Error);
  EXPECT_THROW(scaling("llama.rope.scaling.original_context_length", int64_t{0}), Error);
  EXPECT_THROW(scaling("llama.rope.scaling.yarn_beta_fast", -1.0), Error);
  EXPECT_THROW(scaling("llama.rope.freq_base", 1.0), Error);
}

}  // namespace
}  // namespace neutrino::models
