// Adapters and merges on the tiny llama of tests/golden/models: PEFT's merge_and_unload() (tests/golden/adapters.json, made by
// tools/make_adapter_golden.py), conversions there and back, and merges of models by their formulas.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "models/testing/golden_adapter.h"
#include "models/testing/golden_case.h"
#include "weights/adapter.h"
#include "weights/checkpoint_form.h"
#include "weights/convert.h"
#include "weights/merge.h"
#include "weights/safetensors_writer.h"

namespace neutrino::models {
namespace {

using namespace testing;
using weights::WeightFile;

const std::filesystem::path kGolden = NEUTRINO_SOURCE_DIR "/tests/golden";

json::object adapters() { return parse_json(read_file(kGolden / "adapters.json", 1 << 20)).as_object(); }

std::map<std::string, std::vector<float>> checkpoint_values(const WeightFile& file) {
  const weights::CheckpointTensors tensors(file, weights::checkpoint_form(file));
  std::map<std::string, std::vector<float>> values;
  for (const auto& tensor : tensors.list()) values[tensor.name] = tensors.values(tensor);
  return values;
}

// A byte-level vocabulary of as many tokens as the model has rows.
void write_tokenizer(const std::filesystem::path& folder) {
  json::object vocabulary;
  for (int i = 0; i < 96; ++i) vocabulary[fmt::format("t{}", i)] = i;
  const json::object byte_level{{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  std::ofstream(folder / "tokenizer.json")
      << to_text(json::object{{"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", json::array()}}},
                              {"pre_tokenizer", byte_level},
                              {"decoder", byte_level},
                              {"added_tokens", json::array()}});
}

class Merge : public ::testing::Test {
 protected:
  Merge() {
    std::filesystem::create_directories(folder_.path() / "base");
    write_checkpoint(read_golden_case(kGolden / "models", "llama"), folder_.path() / "base");
    write_tokenizer(folder_.path() / "base");
    base_ = weights::open_weight_file(folder_.path() / "base");
  }
  std::filesystem::path path(std::string_view name) const { return folder_.path() / name; }

  // Another model of the same shape: the golden case with other values.
  std::unique_ptr<WeightFile> sibling(const std::string& name) {
    GoldenCase golden = read_golden_case(kGolden / "models", "llama");
    for (GoldenTensor& tensor : golden.tensors) tensor.offset += name == "near" ? 0.01f : 0.2f;
    std::filesystem::create_directories(path(name));
    write_checkpoint(golden, path(name));
    return weights::open_weight_file(path(name));
  }

  TemporaryFolder folder_;
  std::unique_ptr<WeightFile> base_;
};

TEST_F(Merge, AdaptersEqualPeft) {
  const auto before = checkpoint_values(*base_);
  for (const auto& [key, adapter] : adapters()) {
    SCOPED_TRACE(std::string(key));
    write_adapter(adapter.as_object(), path(std::string(key)));
    const auto merged = weights::merge_adapter(*base_, path(std::string(key)), {});
    const auto after = checkpoint_values(*merged);
    const json::object& expected = adapter.at("expected").as_object();
    double difference = 0;
    for (const auto& [name, values] : after) {
      if (!expected.contains(name)) {
        EXPECT_EQ(values, before.at(name)) << name;
        continue;
      }
      const json::array& at = expected.at(name).at("at").as_array();
      for (size_t i = 0; i < at.size(); ++i) {
        const double want = expected.at(name).at("values").at(i).to_number<double>();
        difference = std::max(difference, std::abs(values[at[i].to_number<size_t>()] - want));
      }
    }
    EXPECT_LE(difference, 2e-6);
    EXPECT_EQ(after.size(), before.size());
  }
}

TEST_F(Merge, WhatAnAdapterSaysIsNeverLeftOut) {
  const json::object all = adapters();
  json::object lora = all.at("lora").as_object();
  const auto refused = [&](json::object adapter) {
    std::filesystem::remove_all(path("bad"));
    write_adapter(adapter, path("bad"));
    EXPECT_THROW(weights::merge_adapter(*base_, path("bad"), {}), Error) << to_text(adapter).substr(0, 200);
  };
  for (const auto& [field, value] :
       std::initializer_list<std::pair<const char*, json::value>>{{"fan_in_fan_out", true},
                                                                  {"lora_bias", true},
                                                                  {"bias", "all"},
                                                                  {"peft_type", "IA3"},
                                                                  {"r", 5},
                                                                  {"r", 0},
                                                                  {"lora_alpha", "6"},
                                                                  {"use_dora", true}}) {
    json::object adapter = lora;
    adapter["config"].as_object()[field] = value;
    refused(adapter);
  }
  json::object adapter = lora;
  adapter["tensors"].at(0).at(0) = "base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight";
  refused(adapter);
  adapter = lora;
  adapter["tensors"].at(0).at(2) = json::array{4, 47};
  refused(adapter);
}

TEST_F(Merge, ThereAndBackIsTheSame) {
  const auto before = checkpoint_values(*base_);
  weights::convert_to_gguf(*base_, path("model.gguf"),
                           {.checkpoint_config = to_text(weights::checkpoint_form(*base_).config)});
  weights::convert_to_gguf(*base_, path("plain.gguf"), {});
  for (const char* name : {"model.gguf", "plain.gguf"}) {
    const auto gguf = weights::open_weight_file(path(name));
    EXPECT_EQ(gguf->format(), "gguf v3");
    EXPECT_EQ(checkpoint_values(*gguf), before) << name;
  }
}

TEST_F(Merge, AnInterruptedConversionGoesOnAndDiffersInNothing) {
  weights::convert_to_gguf(*base_, path("whole.gguf"), {});
  int64_t size = 0;
  struct Stop {};
  for (int64_t stop = 1000; stop < 200'000; stop *= 3) {
    try {
      weights::convert_to_gguf(*base_, path("cut.gguf"), {.progress = [&](int64_t done, int64_t total) {
        size = total;
        if (done > stop) throw Stop();
      }});
    } catch (const Stop&) {
      EXPECT_FALSE(std::filesystem::exists(path("cut.gguf")));
    }
  }
  weights::convert_to_gguf(*base_, path("cut.gguf"), {});
  EXPECT_GT(size, 0);
  EXPECT_EQ(read_file(path("cut.gguf"), 1 << 24), read_file(path("whole.gguf"), 1 << 24));
  EXPECT_FALSE(std::filesystem::exists(path("cut.gguf.partial")));
}

TEST_F(Merge, ModelsByTheirFormulas) {
  const auto near = sibling("near"), far = sibling("far");
  const WeightFile* both[] = {near.get(), far.get()};
  const weights::TensorEntry& entry = *base_->find("blk.1.ffn_up.weight");
  const auto values = [&](const WeightFile& file) {
    return weights::read_values(file, *file.find(entry.name));
  };
  const auto base = values(*base_), a = values(*near), b = values(*far);
  const auto merged = [&](const WeightFile* from, const weights::MergeOptions& options) {
    return values(*weights::merge_models(from, both, options));
  };
  using Method = weights::MergeMethod;
  const auto linear = merged(nullptr, {.method = Method::linear, .weights = {1, 3}});
  const auto start = merged(nullptr, {.method = Method::slerp, .t = 0});
  const auto end = merged(nullptr, {.method = Method::slerp, .t = 1});
  const auto ties = merged(base_.get(), {.method = Method::ties, .density = 1});
  const auto dare = merged(base_.get(), {.method = Method::dare, .density = 0.5, .seed = 7});
  int64_t kept = 0;
  for (size_t i = 0; i < base.size(); ++i) {
    EXPECT_FLOAT_EQ(linear[i], static_cast<float>((a[i] + 3.0 * b[i]) / 4));
    EXPECT_FLOAT_EQ(start[i], a[i]);
    EXPECT_FLOAT_EQ(end[i], b[i]);
    // Both differences are positive everywhere, so all agree.
    EXPECT_NEAR(ties[i], base[i] + ((a[i] - base[i]) + (b[i] - base[i])) / 2, 1e-6);
    kept += dare[i] != base[i];
  }
  EXPECT_NEAR(static_cast<double>(kept) / static_cast<double>(base.size()), 0.75, 0.05);  // 1 - (1/2)^2
  EXPECT_EQ(merged(base_.get(), {.method = Method::dare, .density = 0.5, .seed = 7}), dare);
  EXPECT_NE(merged(base_.get(), {.method = Method::dare, .density = 0.5, .seed = 8}), dare);
}

// Trimming keeps the largest, and of two signs the heavier one wins.
TEST_F(Merge, TiesElectsASign) {
  const auto near = sibling("near"), far = sibling("far");
  const WeightFile* both[] = {near.get(), far.get()};
  const auto value = [&](const weights::MergeOptions& options) {
    const auto merged = weights::merge_models(base_.get(), both, options);
    return weights::read_values(*merged, *merged->find("blk.0.ffn_up.weight"))[5];
  };
  const float base = weights::read_values(*base_, *base_->find("blk.0.ffn_up.weight"))[5];
  // Weights 1 and -1 turn the second difference round: 0.01 against -0.2, so only the second counts.
  EXPECT_NEAR(value({.method = weights::MergeMethod::ties, .weights = {1, -1}, .density = 1}), base + 0.2,
              1e-5);
}

TEST_F(Merge, WhatDoesNotFitIsRefused) {
  const auto near = sibling("near");
  const WeightFile* one[] = {near.get()};
  using Method = weights::MergeMethod;
  EXPECT_THROW(weights::merge_models(nullptr, one, {.method = Method::slerp}), Error);
  EXPECT_THROW(weights::merge_models(nullptr, one, {.method = Method::ties}), Error);
  EXPECT_THROW(weights::merge_models(base_.get(), one, {.method = Method::ties, .density = 0}), Error);
  EXPECT_THROW(weights::merge_models(nullptr, one, {.weights = {1, 2}}), Error);
  EXPECT_THROW(weights::merge_models(nullptr, one, {.weights = {0}}), Error);
  EXPECT_THROW(weights::merge_models(nullptr, {}, {}), Error);
  EXPECT_THROW(weights::merge_method_named("average"), Error);
}

}  // namespace
}  // namespace neutrino::models
