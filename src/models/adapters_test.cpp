// Adapters beside the weights, on the tiny models of tests/golden/models: PEFT's logits (tests/golden/serving_adapters.json, made
// by tools/make_serving_adapter_golden.py), many adapters in one batch, and what cannot be served.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/checked.h"
#include "base/error.h"
#include "base/file.h"
#include "models/testing/golden_adapter.h"
#include "models/testing/golden_case.h"
#include "weights/adapter_updates.h"
#include "weights/gguf_writer.h"

namespace neutrino::models {
namespace {

using namespace testing;
using compute::Arithmetic;

const std::filesystem::path kGolden = NEUTRINO_SOURCE_DIR "/tests/golden";
constexpr double kTolerance = 1e-3;  // of a logit
constexpr weights::AdapterLimits kLimits{.rank_max = 64, .bytes_max = 1 << 24};

const json::object& all_adapters() {
  static const json::object file =
      parse_json(read_file(kGolden / "serving_adapters.json", 1 << 20)).as_object();
  return file;
}

std::unique_ptr<compute::Adapter> load_adapter(compute::Backend& backend,
                                               const weights::AdapterUpdates& updates) {
  std::vector<compute::LowRankUpdate> views;
  for (const weights::AdapterUpdate& update : updates.list) views.push_back(update.view());
  return backend.load_adapter(views);
}

// A golden case with its adapters, served in one arithmetic.
class Served {
 public:
  Served(const std::string& name, Arithmetic arithmetic, int64_t threads = 2)
      : golden_(read_golden_case(kGolden / "models", name)), adapters_(all_adapters().at(name).as_object()) {
    write_checkpoint(golden_, folder_.path() / "base");
    file_ = weights::open_weight_file(folder_.path() / "base");
    start(arithmetic, threads);
  }
  void start(Arithmetic arithmetic, int64_t threads) {
    model_.reset();
    backend_ = compute::make_cpu_backend({.arithmetic = arithmetic, .threads = threads});
    model_ = load_model(*file_, *backend_);
  }
  // The same model from a GGUF file.
  void convert() {
    convert_to_f32_gguf(folder_.path() / "base", folder_.path() / "base.gguf");
    file_ = weights::open_weight_file(folder_.path() / "base.gguf");
    start(Arithmetic::float32, 2);
  }

  std::filesystem::path path(std::string_view name) const { return folder_.path() / name; }
  weights::AdapterUpdates read(const std::string& name) const {
    write_adapter(adapters_.at(name).as_object(), path(name), name + ".");
    return weights::read_adapter_updates(*file_, path(name), kLimits);
  }
  std::unique_ptr<compute::Adapter> load(const std::string& name) const {
    return load_adapter(*backend_, read(name));
  }
  std::vector<float> run(const compute::Adapter* adapter, std::vector<int64_t> chunks = {}) const {
    return run_tokens(*model_, *backend_, golden_.tokens, {.chunks = std::move(chunks), .adapter = adapter});
  }
  // All sequences in one batch, the case's tokens each: the logits of every `step`th row of each.
  std::vector<std::vector<float>> run_together(const std::vector<const compute::Adapter*>& adapters,
                                               int64_t step = 1) const;

  // The largest difference from PEFT's logits.
  double difference(const std::string& name, const std::vector<float>& logits) const {
    const json::array& rows = all_adapters().at("rows").as_array();
    const json::array& expected = adapters_.at(name).at("output_1e5").as_array();
    double largest = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      const auto row = rows[i / static_cast<size_t>(golden_.columns)].to_number<int64_t>();
      const double value = logits[row * golden_.columns + static_cast<int64_t>(i) % golden_.columns];
      const double difference = std::abs(value - 1e-5 * expected[i].to_number<double>());
      largest = difference <= largest ? largest : difference;  // a NaN is the largest
    }
    return largest;
  }

  const json::object& adapters() const { return adapters_; }
  const GoldenCase& golden() const { return golden_; }
  const weights::WeightFile& file() const { return *file_; }
  compute::Backend& backend() const { return *backend_; }

 private:
  TemporaryFolder folder_;
  GoldenCase golden_;
  const json::object& adapters_;
  std::unique_ptr<weights::WeightFile> file_;
  std::unique_ptr<compute::Backend> backend_;
  std::unique_ptr<Model> model_;
};

std::vector<std::vector<float>> Served::run_together(const std::vector<const compute::Adapter*>& adapters,
                                                     int64_t step) const {
  const auto length = std::ssize(golden_.tokens), count = std::ssize(adapters), rows = length * count;
  const int64_t blocks = ceil_div(length, compute::kBlockPositions);
  const auto cache = backend_->make_kv_cache(model_->kv_cache_shape(blocks * count));
  backend_->reserve(model_->scratch_bytes(rows, rows) +
                    backend_->adapter_scratch_bytes(rows, kLimits.rank_max));
  std::vector<int32_t> tokens, positions, outputs, table(static_cast<size_t>(blocks * count));
  std::iota(table.begin(), table.end(), 0);
  std::vector<compute::SequenceRows> sequences;
  for (int64_t i = 0; i < count; ++i) {
    tokens.insert(tokens.end(), golden_.tokens.begin(), golden_.tokens.end());
    for (int64_t p = 0; p < length; ++p) {
      positions.push_back(static_cast<int32_t>(p));
      if ((p + 1) % step == 0) outputs.push_back(static_cast<int32_t>(i * length + p));
    }
    sequences.push_back({.first_row = i * length,
                         .rows = length,
                         .block_table = std::span(table).subspan(static_cast<size_t>(i * blocks),
                                                                 static_cast<size_t>(blocks)),
                         .adapter = adapters[static_cast<size_t>(i)]});
  }
  const compute::Tensor out = model_->forward(*backend_, {tokens, positions, sequences, outputs}, *cache);
  std::vector<std::vector<float>> results(adapters.size());
  for (int64_t r = 0; r < out.rows; ++r) {
    auto& result = results[static_cast<size_t>(outputs[static_cast<size_t>(r)] / length)];
    result.insert(result.end(), out.row(r), out.row(r) + out.columns);
  }
  return results;
}

class GoldenAdapter : public ::testing::TestWithParam<std::string> {};

std::vector<std::string> served_cases() {
  std::vector<std::string> names;
  for (const auto& [name, value] : all_adapters())
    if (value.is_object()) names.emplace_back(name);
  return names;
}

TEST_P(GoldenAdapter, ExactEqualsPeft) {
  const Served served(GetParam(), Arithmetic::float32);
  const auto plain = served.run(nullptr);
  for (const auto& [key, value] : served.adapters()) {
    const std::string name(key);
    const auto adapter = served.load(name);
    const auto logits = served.run(adapter.get());
    EXPECT_LE(served.difference(name, logits), kTolerance) << name;
    EXPECT_GT(served.difference(name, plain), 0.05) << name << ": without the adapter it must not fit";
    EXPECT_EQ(served.run(adapter.get(), {5, 28, 15}), logits) << name << ": in chunks";
  }
  EXPECT_EQ(served.run(nullptr), plain) << "loading adapters changes nothing";
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenAdapter, ::testing::ValuesIn(served_cases()), [](const auto& param) {
  std::string name = param.param;
  std::ranges::replace(name, '-', '_');
  return name;
});

// Eight adapters and the base in one batch: PEFT's logits, and the bits of each alone.
TEST(ServedAdapters, EightInOneBatch) {
  for (const Arithmetic arithmetic : {Arithmetic::float32, Arithmetic::integer}) {
    const Served served("llama", arithmetic, 2), single("llama", arithmetic, 1);
    std::vector<std::string> names;
    std::vector<std::unique_ptr<compute::Adapter>> loaded, alone;
    std::vector<const compute::Adapter*> batch;
    for (const auto& [key, value] : served.adapters()) {
      names.emplace_back(key);
      loaded.push_back(served.load(names.back()));
      alone.push_back(single.load(names.back()));
      batch.push_back(loaded.back().get());
      if (batch.size() == 4) batch.push_back(nullptr);
    }
    ASSERT_EQ(names.size(), 8u);
    const auto results = served.run_together(batch);
    for (size_t i = 0; i < names.size(); ++i) {
      const auto& logits = results[i < 4 ? i : i + 1];
      EXPECT_EQ(logits, single.run(alone[i].get())) << names[i];
      if (arithmetic == Arithmetic::float32) {
        EXPECT_LE(served.difference(names[i], logits), kTolerance) << names[i];
      }
    }
    EXPECT_EQ(results[4], single.run(nullptr)) << "the base among adapters";
    const auto some =
        served.run_together(batch, 5);  // behind the last layer's attention only those rows go on
    const int64_t columns = served.golden().columns;
    for (size_t i = 0; i < some.size(); ++i) {
      ASSERT_EQ(std::ssize(some[i]), std::ssize(served.golden().tokens) / 5 * columns);
      for (int64_t k = 0; k < std::ssize(some[i]); ++k)
        ASSERT_EQ(some[i][k], results[i][(k / columns * 5 + 4) * columns + k % columns]) << i << ' ' << k;
    }
  }
}

// In normal arithmetic an adapter is as near to PEFT as the base is to transformers.
TEST(ServedAdapters, IntegerArithmeticIsNear) {
  const Served served("llama", Arithmetic::integer), exact("llama", Arithmetic::float32);
  const auto adapter = served.load("e"), exact_adapter = exact.load("e");
  const auto norm = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (double{a[i]} - b[i]) * (double{a[i]} - b[i]);
    return std::sqrt(sum / static_cast<double>(a.size()));
  };
  const double with = norm(served.run(adapter.get()), exact.run(exact_adapter.get()));
  const double without = norm(served.run(nullptr), exact.run(nullptr));
  EXPECT_LE(with, 4 * without + 0.01);
  EXPECT_GT(with, 0);
}

// As llama.cpp's conversion writes it: B's rows of q and k in GGUF's order.
void write_gguf_adapter(const weights::AdapterUpdates& updates, std::string_view architecture,
                        const std::filesystem::path& path) {
  weights::GgufKeyValues keys;
  keys.set("general.architecture", architecture);
  keys.set("general.type", "adapter");
  keys.set("adapter.type", "lora");
  keys.set("adapter.lora.alpha", 2.0f);
  std::vector<weights::GgufTensorInfo> tensors;
  std::vector<std::vector<float>> values;
  for (const weights::AdapterUpdate& update : updates.list) {
    tensors.push_back({update.tensor + ".lora_a", compute::DType::f32, {update.rank, update.columns}});
    values.push_back(update.a);
    tensors.push_back({update.tensor + ".lora_b", compute::DType::f32, {update.rows, update.rank}});
    values.push_back(update.b);
    for (float& value : values.back())
      value *= static_cast<float>(update.rank) / 2;  // alpha / rank takes it back
  }
  weights::write_gguf(path, keys, tensors, [&](size_t i, const weights::GgufSink& sink) {
    sink(std::as_bytes(std::span(values[i])));
  });
}

TEST(ServedAdapters, GgufFilesAndGgufBases) {
  Served served("llama", Arithmetic::float32);
  const auto updates = served.read("h");
  const auto logits = served.run(load_adapter(served.backend(), updates).get());
  write_gguf_adapter(updates, "llama", served.path("h.gguf"));
  const auto from_gguf = weights::read_adapter_updates(served.file(), served.path("h.gguf"), kLimits);
  EXPECT_EQ(served.run(load_adapter(served.backend(), from_gguf).get()), logits);
  EXPECT_EQ(from_gguf.digest, updates.digest);

  served.convert();  // the base is a GGUF file now: a PEFT adapter's names and rows become its own
  const auto on_gguf = served.read("h");
  EXPECT_EQ(on_gguf.digest, updates.digest);
  EXPECT_LE(served.difference("h", served.run(load_adapter(served.backend(), on_gguf).get())), kTolerance);

  write_gguf_adapter(updates, "qwen2", served.path("other.gguf"));
  EXPECT_THROW(weights::read_adapter_updates(served.file(), served.path("other.gguf"), kLimits), Error);
}

TEST(ServedAdapters, TheDigestTellsContentsApart) {
  const Served served("llama", Arithmetic::float32);
  const auto first = served.read("a"), again = served.read("a"), other = served.read("c");
  EXPECT_EQ(first.digest, again.digest);
  EXPECT_NE(first.digest, other.digest);
  json::object scaled = served.adapters().at("a").as_object();
  scaled["config"].as_object()["lora_alpha"] = 7;
  write_adapter(scaled, served.path("scaled"), "a.");
  EXPECT_NE(weights::read_adapter_updates(served.file(), served.path("scaled"), kLimits).digest,
            first.digest);
}

void expect_refused(const Served& served, const json::object& adapter, std::string_view named,
                    const weights::AdapterLimits& limits = kLimits) {
  std::filesystem::remove_all(served.path("bad"));
  write_adapter(adapter, served.path("bad"));
  try {
    load_adapter(served.backend(), weights::read_adapter_updates(served.file(), served.path("bad"), limits));
    ADD_FAILURE() << "accepted: " << named;
  } catch (const Error& error) {
    EXPECT_NE(error.message().find(named), std::string::npos) << error.message();
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
  }
}

TEST(ServedAdapters, WhatCannotBeServedIsRefusedByName) {
  const Served served("llama", Arithmetic::float32);
  const json::object merged = parse_json(read_file(kGolden / "adapters.json", 1 << 20)).as_object();
  expect_refused(served, merged.at("dora").as_object(), "DoRA");
  expect_refused(served, merged.at("embedding").as_object(), "modules_to_save");
  const json::object good = served.adapters().at("a").as_object();
  for (const auto& [field, value] : std::initializer_list<std::pair<const char*, json::value>>{
           {"use_qalora", true},
           {"alora_invocation_tokens", json::array{1, 2}},
           {"target_parameters", json::array{"experts.gate_up_proj"}},
           {"trainable_token_indices", json::array{3}},
           {"layer_replication", json::array{json::array{0, 2}}},
           {"init_lora_weights", "pissa"},
           {"fan_in_fan_out", true},
           {"bias", "all"}}) {
    json::object adapter = good;
    adapter["config"].as_object()[field] = value;
    expect_refused(served, adapter, field);
  }
  expect_refused(served, good, "rank", {.rank_max = 3, .bytes_max = 1 << 24});
  expect_refused(served, good, "memory", {.rank_max = 64, .bytes_max = 1000});
  json::object table = merged.at("embedding").as_object();  // without what it also replaces
  json::array kept;
  for (const json::value& tensor : table.at("tensors").as_array())
    if (std::string_view(tensor.at(0).as_string()).find("lora_embedding") != std::string_view::npos)
      kept.push_back(tensor);
  table["tensors"] = kept;
  expect_refused(served, table, "token_embd");
}

// Targets that a mixture's router, experts or DeepSeek's absorbed projections have: none is left out silently.
TEST(ServedAdapters, TargetsWithoutAProductAreRefusedByName) {
  const auto target = [](const std::string& module, int64_t rows, int64_t columns) {
    const std::string name = "base_model.model.model.layers.1." + module;
    return json::object{{"config", {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 2}}},
                        {"tensors",
                         {{name + ".lora_A.weight", "F32", {2, columns}, 0.0, 0.1},
                          {name + ".lora_B.weight", "F32", {rows, 2}, 0.0, 0.1}}}};
  };
  const Served mixture("qwen3moe", Arithmetic::float32), latent("deepseek2-v3", Arithmetic::float32);
  const auto shape = [](const Served& served, const std::string& name) {
    for (const GoldenTensor& tensor : served.golden().tensors)
      if (tensor.name == "model.layers.1." + name + ".weight") return tensor.shape;
    return std::vector<int64_t>{8, 8};
  };
  for (const std::string module : {"mlp.gate", "mlp.experts.0.up_proj", "mlp.experts.3.down_proj"}) {
    const auto size = shape(mixture, module);
    expect_refused(mixture, target(module, size[0], size[1]), "adapter");
  }
  const auto size = shape(latent, "self_attn.kv_b_proj");
  expect_refused(latent, target("self_attn.kv_b_proj", size[0], size[1]), "kv_b_proj");
}

}  // namespace
}  // namespace neutrino::models
