// llama's relatives with mixtures of experts: Qwen2-MoE, Qwen3-MoE, ERNIE 4.5 MoE, GLM-4.5 MoE.
//
//   x = embed(tokens)
//   for each layer:  x += attention(rms_norm(x));  x += mixture(rms_norm(x)), or a gated MLP in a layer without a router
//   logits = head(rms_norm(x))
//
// What one does otherwise than another stands in kVariants; how its router chooses, mostly in the file's keys.

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "models/architectures.h"
#include "models/layers.h"
#include "models/moe.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::Gating;
using compute::KvCache;
using compute::RopePairs;
using compute::Tensor;

namespace {

struct Variant {
  std::string_view architecture;
  RopePairs pairs = RopePairs::halves;
  AttentionOptions attention = {};
  MoeDefaults moe = {};
  std::string_view mlp_norm = "ffn_norm";
};

constexpr Variant kVariants[] = {
    {.architecture = "qwen2moe", .attention = {.bias = Bias::required}},
    {.architecture = "qwen3moe", .attention = {.norm = QkNorm::per_head}, .moe = {.normalize = true}},
    {.architecture = "ernie4_5-moe",
     .pairs = RopePairs::adjacent,
     .moe = {.normalize = true, .weights_min = 1e-12f}},
    {.architecture = "glm4moe",
     .attention = {.norm = QkNorm::per_head},  // if the file has the norms
     .moe = {.gating = Gating::sigmoid, .weights_min = 1e-20f},
     .mlp_norm = "post_attention_norm"},
};

const Variant& find_variant(std::string_view architecture) {
  const auto found = std::ranges::find(kVariants, architecture, &Variant::architecture);
  check(found != std::end(kVariants), "the registry names what this file knows");
  return *found;
}

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size)
  Attention attention;
  FeedForward feed_forward;
};

class LlamaMoe final : public Model {
 public:
  LlamaMoe(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override {
    return decoder_scratch_bytes(config_, rows, output_rows) + moe_scratch_bytes(moe_, rows);
  }
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  MoeConfig moe_;
  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_;
  float eps_ = 0;
  int64_t weight_bytes_ = 0;  // read for one token: all layers' share of experts, and the head
};

// GLM-4.5 has norms of q and k, its Air models have none.
AttentionOptions attention_options(const weights::WeightFile& file, const Variant& variant) {
  AttentionOptions options = variant.attention;
  if (variant.architecture == "glm4moe" && !file.find(layer_name(0, "attn_q_norm.weight")))
    options.norm = QkNorm::none;
  return options;
}

LlamaMoe::LlamaMoe(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_llama_moe_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  const Variant& variant = find_variant(config_.architecture);
  const int64_t hidden = config_.hidden_size;
  moe_ = read_moe_config(file, hidden, variant.moe);
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, variant.pairs,
                                 read_rope_scaling(file, config_, context_));
  embeddings_ = load_embeddings(file, backend, config_);
  const AttentionOptions options = attention_options(file, variant);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    Layer layer;
    layer.attention_norm = file.vector(layer_name(i, "attn_norm.weight"), hidden);
    layer.attention =
        load_attention(file, backend, i, hidden, attention_shape(config_), rope_.get(), eps_, options);
    layer.feed_forward = load_feed_forward(file, backend, i, config_, moe_, variant.mlp_norm);
    layers_.push_back(std::move(layer));
  }
  weight_bytes_ = token_weight_bytes(file, moe_);
}

Tensor LlamaMoe::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const auto normed = backend.rms_norm(x, layer.attention_norm, eps_);
    Tensor* const last = i + 1 == config_.num_hidden_layers ? &x : nullptr;
    linear_add(backend, x, attend(backend, layer.attention, normed, batch, cache, i, last),
               layer.attention.output);
    add_feed_forward(backend, layer.feed_forward, x, eps_);
  }
  if (batch.output_rows.empty()) return {};
  return logits(backend, embeddings_, x, batch, eps_);
}

}  // namespace

// Keys: llama.cpp's conversions. Layers at the end that predict further tokens (GLM's nextn) are left out.
ModelConfig read_llama_moe_config(const weights::WeightFile& file) {
  ModelConfig config = read_common_config(file);
  config.num_hidden_layers -= read_size_or(file, "nextn_predict_layers", 0, config.num_hidden_layers - 1, 0);
  return config;
}

std::unique_ptr<Model> load_llama_moe(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<LlamaMoe>(file, backend, context);
}

}  // namespace neutrino::models
