// Mixtures and latent attention from files that say the same otherwise, or that say what cannot be. The comparisons with the
// authors' code stand in golden_models_test.cpp and moe_routing_test.cpp.

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/error.h"
#include "models/testing/added_tensors.h"
#include "models/testing/changed_weights.h"
#include "models/testing/golden_case.h"
#include "weights/testing/safetensors_writer.h"

namespace neutrino::models {
namespace {

using namespace testing;
using compute::Arithmetic;
using weights::MetadataValue;

const std::filesystem::path kFolder = NEUTRINO_SOURCE_DIR "/tests/golden/models";

std::unique_ptr<compute::Backend> cpu_backend(Arithmetic arithmetic) {
  return compute::make_cpu_backend({.arithmetic = arithmetic, .threads = 1});
}

std::vector<float> outputs(const weights::WeightFile& file, const std::vector<int32_t>& tokens) {
  const auto backend = cpu_backend(Arithmetic::float32);
  return run_tokens(*load_model(file, *backend), *backend, tokens);
}

// A golden case's checkpoint, opened.
struct Opened {
  explicit Opened(std::string_view name) : golden(read_golden_case(kFolder, name)) {
    write_checkpoint(golden, folder.path());
    file = weights::open_weight_file(folder.path());
  }

  GoldenCase golden;
  TemporaryFolder folder;
  std::unique_ptr<weights::WeightFile> file;
};

// ---- the same otherwise

// Row-major (count, rows, columns).
std::vector<float> transpose_each(const std::vector<float>& values, int64_t count, int64_t rows,
                                  int64_t columns) {
  std::vector<float> out(values.size());
  for (int64_t i = 0; i < count; ++i)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c)
        out[(i * columns + c) * rows + r] = values[(i * rows + r) * columns + c];
  return out;
}

// Of each i, `a_size` values of a and then `b_size` of b.
std::vector<float> interleave(const std::vector<float>& a, const std::vector<float>& b, int64_t count) {
  const auto a_size = static_cast<int64_t>(a.size()) / count, b_size = static_cast<int64_t>(b.size()) / count;
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i) {
    out.insert(out.end(), a.begin() + i * a_size, a.begin() + (i + 1) * a_size);
    out.insert(out.end(), b.begin() + i * b_size, b.begin() + (i + 1) * b_size);
  }
  return out;
}

TEST(MoeFiles, GateAboveUpInOneTensorGivesTheSameBits) {
  const Opened opened("qwen3moe");
  AddedTensors fused(*opened.file);
  for (const int64_t layer : {0, 1}) {
    const std::string prefix = fmt::format("blk.{}.", layer);
    const auto shape = fused.find(prefix + "ffn_gate_exps.weight")->shape;
    fused.add(prefix + "ffn_gate_up_exps.weight", {shape[0], 2 * shape[1], shape[2]},
              interleave(fused.values(prefix + "ffn_gate_exps.weight"),
                         fused.values(prefix + "ffn_up_exps.weight"), shape[0]));
    fused.erase(prefix + "ffn_gate_exps.weight");
    fused.erase(prefix + "ffn_up_exps.weight");
  }
  EXPECT_EQ(outputs(fused, opened.golden.tokens), outputs(*opened.file, opened.golden.tokens));
}

// Files from before llama.cpp split kv_b: their keys speak of whole heads, and attn_kv_b holds each head's [k_nope | v].
TEST(MoeFiles, AnUnsplitLatentProjectionGivesTheSameBits) {
  const Opened opened("deepseek2-v3");
  ChangedWeights keys(*opened.file);
  AddedTensors old(keys);
  const auto& config = opened.golden.config;
  const auto size = [&](const char* field) { return config.at(field).to_number<int64_t>(); };
  const int64_t heads = size("num_attention_heads"), latent = size("kv_lora_rank"),
                value = size("v_head_dim"), nope = size("qk_nope_head_dim");
  for (int64_t layer = 0; layer < size("num_hidden_layers"); ++layer) {
    const std::string prefix = fmt::format("blk.{}.attn_", layer);
    old.add(prefix + "kv_b.weight", {heads * (nope + value), latent},
            interleave(transpose_each(old.values(prefix + "k_b.weight"), heads, latent, nope),
                       old.values(prefix + "v_b.weight"), heads));
    old.erase(prefix + "k_b.weight");
    old.erase(prefix + "v_b.weight");
  }
  keys.set("deepseek2.attention.key_length", nope + size("qk_rope_head_dim"));
  keys.set("deepseek2.attention.value_length", value);
  keys.set("deepseek2.attention.head_count_kv", heads);
  keys.erase("deepseek2.attention.key_length_mla");
  keys.erase("deepseek2.attention.value_length_mla");
  EXPECT_EQ(outputs(old, opened.golden.tokens), outputs(*opened.file, opened.golden.tokens));
}

// ---- gpt-oss's MXFP4 experts

// The case "gpt-oss" with a hidden size that MXFP4's blocks of 32 divide, and its experts packed.
weights::testing::StImage packed_gpt_oss(GoldenCase& golden) {
  golden.config["hidden_size"] = 64;
  golden.config["quantization_config"] = {{"quant_method", "mxfp4"}};
  weights::testing::StImage image;
  for (GoldenTensor& tensor : golden.tensors) {
    for (int64_t& size : tensor.shape)
      if (size == 48) size = 64;
    int64_t count = 1;
    for (const int64_t size : tensor.shape) count *= size;
    std::vector<float> values = golden_uniform(tensor.name, count);
    if (tensor.shape.size() < 3) {
      for (float& value : values) value = tensor.offset + tensor.scale * value;
      image.tensors.push_back(
          {.name = tensor.name, .shape = tensor.shape, .data = weights::testing::floats_as("F32", values)});
      continue;
    }
    const int64_t experts = tensor.shape[0], in = tensor.shape[1], out = tensor.shape[2];
    std::string blocks(static_cast<size_t>(experts * out * in / 2), 0), scales(blocks.size() / 16, 0);
    for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = static_cast<char>(values[i] * 127);
    for (size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<char>(122 + i % 4);
    image.tensors.push_back({.name = tensor.name + "_blocks",
                             .dtype = "U8",
                             .shape = {experts, out, in / 32, 16},
                             .data = blocks});
    image.tensors.push_back(
        {.name = tensor.name + "_scales", .dtype = "U8", .shape = {experts, out, in / 32}, .data = scales});
  }
  return image;
}

// Element `column` of row `row` of an expert's matrix (rows, columns), from the bytes on disk: byte j of a block holds
// elements 2j (low) and 2j + 1 (high).
float packed_value(const weights::testing::StImage& image, const std::string& name, int64_t row,
                   int64_t column, int64_t columns) {
  constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  const auto bytes = [&](const char* suffix) -> const std::string& {
    for (const auto& tensor : image.tensors)
      if (tensor.name == name + suffix) return tensor.data;
    throw Error(ErrorCode::internal, "the tensor is there");
  };
  const int64_t element = row * columns + column;
  const int byte = static_cast<uint8_t>(bytes("_blocks")[element / 2]),
            code = element % 2 ? byte >> 4 : byte & 15;
  const int exponent = static_cast<uint8_t>(bytes("_scales")[element / 32]) - 127;
  return std::ldexp(code & 8 ? -kValues[code & 7] : kValues[code & 7], exponent);
}

TEST(MoeFiles, PackedExpertsAreDealtOutToGateAndUp) {
  GoldenCase golden = read_golden_case(kFolder, "gpt-oss");
  const weights::testing::StImage image = packed_gpt_oss(golden);
  const TemporaryFolder folder;
  std::ofstream(folder.path() / "model.safetensors", std::ios::binary) << serialise(image);
  std::ofstream(folder.path() / "config.json") << to_text(golden.config);
  const auto file = weights::open_weight_file(folder.path());
  const AddedTensors reader(*file);
  const std::string source = "model.layers.1.mlp.experts.";
  constexpr int64_t kExperts = 8, kHidden = 64, kInner = 32;
  const auto gate = reader.values("blk.1.ffn_gate_exps.weight"),
             up = reader.values("blk.1.ffn_up_exps.weight"),
             down = reader.values("blk.1.ffn_down_exps.weight");
  for (int64_t row = 0; row < kExperts * kInner; ++row)
    for (int64_t c = 0; c < kHidden; ++c) {
      ASSERT_EQ(gate[row * kHidden + c], packed_value(image, source + "gate_up_proj", 2 * row, c, kHidden));
      ASSERT_EQ(up[row * kHidden + c], packed_value(image, source + "gate_up_proj", 2 * row + 1, c, kHidden));
    }
  for (int64_t row = 0; row < kExperts * kHidden; ++row)
    for (int64_t c = 0; c < kInner; ++c)
      ASSERT_EQ(down[row * kInner + c], packed_value(image, source + "down_proj", row, c, kInner));
  for (const float logit : outputs(*file, golden.tokens)) ASSERT_TRUE(std::isfinite(logit));
}

// ---- what cannot be

struct BadKey {
  const char* golden;
  const char* key;
  MetadataValue value;
};

TEST(MoeFiles, ImpossibleKeysAreErrors) {
  const BadKey bad[] = {
      {"qwen3moe", "qwen3moe.expert_count", int64_t{0}},
      {"qwen3moe", "qwen3moe.expert_count", int64_t{-1}},
      {"qwen3moe", "qwen3moe.expert_count", int64_t{7}},
      {"qwen3moe", "qwen3moe.expert_count", int64_t{9}},
      {"qwen3moe", "qwen3moe.expert_count", int64_t{1} << 40},
      {"qwen3moe", "qwen3moe.expert_used_count", int64_t{0}},
      {"qwen3moe", "qwen3moe.expert_used_count", int64_t{9}},
      {"qwen3moe", "qwen3moe.expert_feed_forward_length", int64_t{31}},
      {"qwen3moe", "qwen3moe.expert_feed_forward_length", int64_t{0}},
      {"qwen3moe", "qwen3moe.expert_gating_func", int64_t{4}},
      {"qwen3moe", "qwen3moe.expert_gating_func", int64_t{-1}},
      {"qwen3moe", "qwen3moe.expert_group_count", int64_t{3}},
      {"qwen3moe", "qwen3moe.expert_weights_norm", int64_t{1}},
      {"qwen3moe", "qwen3moe.expert_weights_scale", __builtin_nan("")},
      {"qwen3moe", "qwen3moe.moe_latent_size", int64_t{16}},
      {"qwen2moe", "qwen2moe.expert_shared_feed_forward_length", int64_t{39}},
      {"gpt-oss", "gpt-oss.attention.sliding_window", int64_t{-1}},
      {"gpt-oss", "gpt-oss.attention.head_count", int64_t{3}},
      {"deepseek2-v3", "deepseek2.expert_group_count", int64_t{5}},
      {"deepseek2-v3", "deepseek2.expert_group_count", int64_t{12}},
      {"deepseek2-v3", "deepseek2.expert_group_used_count", int64_t{4}},
      {"deepseek2-v3", "deepseek2.expert_used_count", int64_t{9}},
      {"deepseek2-v3", "deepseek2.attention.kv_lora_rank", int64_t{0}},
      {"deepseek2-v3", "deepseek2.attention.kv_lora_rank", int64_t{31}},
      {"deepseek2-v3", "deepseek2.attention.kv_lora_rank", int64_t{1} << 32},
      {"deepseek2-v3", "deepseek2.attention.q_lora_rank", int64_t{0}},
      {"deepseek2-v3", "deepseek2.attention.q_lora_rank", int64_t{-24}},
      {"deepseek2-v3", "deepseek2.attention.key_length_mla", int64_t{8}},
      {"deepseek2-v3", "deepseek2.attention.value_length_mla", int64_t{0}},
      {"deepseek2-v3", "deepseek2.attention.value_length_mla", int64_t{13}},
      {"deepseek2-v3", "deepseek2.rope.dimension_count", int64_t{7}},
      {"deepseek2-v3", "deepseek2.rope.dimension_count", int64_t{24}},
      {"deepseek2-v3", "deepseek2.rope.scaling.factor", __builtin_nan("")},
      {"deepseek2-v3", "deepseek2.rope.scaling.yarn_log_multiplier", -1.0},
      {"glm4moe", "glm4moe.nextn_predict_layers", int64_t{3}},
      {"ernie4_5-moe", "ernie4_5-moe.expert_shared_count", int64_t{-1}},
  };
  std::map<std::string, std::unique_ptr<Opened>> cases;
  for (const auto& [golden, key, value] : bad) {
    SCOPED_TRACE(fmt::format("{} in {}", key, golden));
    auto& opened = cases[golden];
    if (!opened) opened = std::make_unique<Opened>(golden);
    EXPECT_NO_THROW(outputs(*opened->file, {0, 1, 2}));
    ChangedWeights file(*opened->file);
    file.set(key, value);
    EXPECT_THROW(outputs(file, {0, 1, 2}), Error);
  }
}

TEST(MoeFiles, MissingTensorsAreErrors) {
  const std::pair<const char*, const char*> missing[] = {
      {"qwen3moe", "blk.1.ffn_down_exps.weight"}, {"qwen3moe", "blk.1.ffn_up_exps.weight"},
      {"qwen3moe", "blk.0.ffn_gate_inp.weight"},  {"gpt-oss", "blk.0.attn_sinks.weight"},
      {"gpt-oss", "blk.2.ffn_gate_exps.weight"},  {"deepseek2-v3", "blk.0.attn_k_b.weight"},
      {"deepseek2-v3", "blk.0.attn_v_b.weight"},  {"deepseek2-v3", "blk.2.ffn_down_shexp.weight"},
      {"deepseek2-v3", "blk.0.ffn_down.weight"},  {"qwen2moe", "blk.0.attn_q.bias"},
  };
  for (const auto& [golden, name] : missing) {
    SCOPED_TRACE(name);
    const Opened opened(golden);
    ChangedWeights file(*opened.file);
    ASSERT_NE(file.find(name), nullptr);
    file.erase_tensor(name);
    EXPECT_THROW(outputs(file, {0, 1, 2}), Error);
  }
}

// The same through config.json.
TEST(MoeFiles, ImpossibleFieldsOfConfigJsonAreErrors) {
  const std::tuple<const char*, const char*, json::value> bad[] = {
      {"qwen3moe", "num_experts", 7},
      {"qwen3moe", "num_experts", 0},
      {"qwen3moe", "num_experts", -1},
      {"qwen3moe", "num_experts", 1e9},
      {"qwen3moe", "num_experts_per_tok", 9},
      {"qwen3moe", "num_experts_per_tok", nullptr},
      {"qwen3moe", "moe_intermediate_size", 31},
      {"qwen3moe", "norm_topk_prob", "yes"},
      {"gpt-oss", "intermediate_size", 33},
      {"gpt-oss", "swiglu_limit", 8.0},
      {"gpt-oss", "num_local_experts", 4096},
      {"deepseek2-v2", "topk_method", "noaux_tc"},
      {"deepseek2-v2", "norm_topk_prob", true},
      {"deepseek2-v2", "n_group", 5},
      {"deepseek2-v3", "n_group", 5},
      {"deepseek2-v3", "topk_group", 4},
      {"deepseek2-v3", "kv_lora_rank", 0},
      {"deepseek2-v3", "kv_lora_rank", 33},
      {"deepseek2-v3", "kv_lora_rank", -32},
      {"deepseek2-v3", "q_lora_rank", nullptr},
      {"deepseek2-v3", "qk_rope_head_dim", 7},
      {"deepseek2-v3", "qk_nope_head_dim", 0},
      {"deepseek2-v3", "v_head_dim", 1 << 20},
      {"deepseek2-v3", "n_routed_experts", 11},
      {"deepseek2-v3", "num_attention_heads", 0},
      {"deepseek2-v3", "scoring_func", "softmax"},
      {"ernie4_5-moe", "moe_norm_min", 1e-6},
      {"ernie4_5-moe", "use_bias", true},
      {"glm4moe", "n_group", 3},
      {"glm4moe", "n_shared_experts", 3},
  };
  for (const auto& [name, field, value] : bad) {
    SCOPED_TRACE(fmt::format("{} of {}", field, name));
    GoldenCase golden = read_golden_case(kFolder, name);
    golden.config[field] = value;
    const TemporaryFolder folder;
    write_checkpoint(golden, folder.path());
    EXPECT_THROW(outputs(*weights::open_weight_file(folder.path()), {0, 1, 2}), Error);
  }
}

}  // namespace
}  // namespace neutrino::models
