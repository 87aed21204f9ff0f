// deci: Llama-Nemotron (Bercovich et al. 2025), llama models whose layers a search has thinned out.
//
//   for each layer:  x += attention(norm(x))  or  x += W norm(x)  or nothing
//                    x += down(silu(gate(norm(x))) * up(norm(x)))  or nothing
//   logits = head(norm(x))
//
// Head counts and MLP sizes are given for each layer: no heads, no attention; heads without key/value heads, one matrix
// instead of it; size 0, no MLP.

#include <algorithm>

#include "base/error.h"
#include "models/architectures.h"
#include "models/layers.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::Tensor;

namespace {

struct LayerSizes {
  int64_t heads = 0, kv_heads = 0, intermediate = 0;
  bool attends() const { return kv_heads > 0; }
  bool linear() const { return heads > 0 && kv_heads == 0; }
};

struct Layer {
  LayerSizes sizes;
  std::vector<float> attention_norm;  // (hidden_size), or empty: nothing here
  Attention attention;          // or, with sizes.linear(), only its `output`, (hidden_size, hidden_size)
  int64_t cache_layer = 0;      // of those that attend
  std::vector<float> mlp_norm;  // (hidden_size), or empty: nothing here
  GatedMlp mlp;
};

std::vector<LayerSizes> read_sizes(const weights::WeightFile& file, const ModelConfig& config) {
  const int64_t layers = config.num_hidden_layers;
  const auto heads = read_layer_sizes(file, "attention.head_count", layers, 0, kHeadsMax);
  const auto kv_heads = read_layer_sizes(file, "attention.head_count_kv", layers, 0, kHeadsMax);
  const auto intermediate = read_layer_sizes(file, "feed_forward_length", layers, 0, kHiddenMax);
  std::vector<LayerSizes> sizes;
  for (int64_t i = 0; i < layers; ++i) {
    sizes.push_back({heads[i], kv_heads[i], intermediate[i]});
    if (kv_heads[i] > 0 && (heads[i] == 0 || heads[i] % kv_heads[i] != 0))
      throw make_error(ErrorCode::invalid_argument,
                       "layer {}: attention.head_count must be a multiple of head_count_kv, got {} and {}", i,
                       heads[i], kv_heads[i]);
  }
  if (std::ranges::none_of(sizes, &LayerSizes::attends))
    throw Error(ErrorCode::invalid_argument, "a deci model needs a layer with attention");
  return sizes;
}

class Deci final : public Model {
 public:
  Deci(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override {
    return decoder_scratch_bytes(config_, rows, output_rows);
  }
  int64_t weight_bytes() const override { return weight_bytes_; }
  compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t state_slots) const override;

 private:
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t index,
                   const LayerSizes& sizes) const;

  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_;
  float eps_ = 0;
  int64_t weight_bytes_ = 0;
};

Deci::Deci(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_deci_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta,
                                 compute::RopePairs::adjacent, read_rope_scaling(file, config_, context_));
  embeddings_ = load_embeddings(file, backend, config_);
  int64_t attending = 0;
  for (const LayerSizes& sizes : read_sizes(file, config_)) {
    layers_.push_back(load_layer(file, backend, std::ssize(layers_), sizes));
    if (sizes.attends()) layers_.back().cache_layer = attending++;
  }
  weight_bytes_ = token_weight_bytes(file);
}

Layer Deci::load_layer(const weights::WeightFile& file, Backend& backend, int64_t index,
                       const LayerSizes& sizes) const {
  const int64_t hidden = config_.hidden_size;
  Layer layer{.sizes = sizes, .attention_norm = {}, .attention = {}, .mlp_norm = {}, .mlp = {}};
  if (sizes.heads > 0) layer.attention_norm = file.vector(layer_name(index, "attn_norm.weight"), hidden);
  if (sizes.attends()) {
    compute::AttentionShape shape = attention_shape(config_);
    shape.num_attention_heads = sizes.heads, shape.num_key_value_heads = sizes.kv_heads;
    layer.attention = load_attention(file, backend, index, hidden, shape, rope_.get(), eps_);
  } else if (sizes.linear()) {
    layer.attention.output = load_linear(file, backend, layer_name(index, "attn_output"), hidden, hidden);
  }
  if (sizes.intermediate > 0) {
    layer.mlp_norm = file.vector(layer_name(index, "ffn_norm.weight"), hidden);
    layer.mlp = load_gated_mlp(file, backend, index, hidden, sizes.intermediate);
  }
  return layer;
}

Tensor Deci::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (const Layer& layer : layers_) {
    const compute::ScratchScope scope(backend);
    if (layer.sizes.heads > 0) {
      auto y = backend.rms_norm(x, layer.attention_norm, eps_);
      if (layer.sizes.attends()) y = attend(backend, layer.attention, y, batch, cache, layer.cache_layer);
      linear_add(backend, x, y, layer.attention.output);
    }
    if (layer.sizes.intermediate > 0)
      linear_add(backend, x, gated(backend, layer.mlp, backend.rms_norm(x, layer.mlp_norm, eps_)),
                 layer.mlp.down);
  }
  if (batch.output_rows.empty()) return {};
  return logits(backend, embeddings_, x, batch, eps_);
}

compute::KvCacheShape Deci::kv_cache_shape(int64_t blocks, int64_t state_slots) const {
  compute::KvCacheShape shape{.layers = {}, .blocks = blocks, .states = {}, .state_slots = state_slots};
  for (const Layer& layer : layers_)
    if (layer.sizes.attends())
      shape.layers.push_back({layer.sizes.kv_heads, config_.head_dim, config_.head_dim});
  return shape;
}

}  // namespace

// Keys: llama.cpp's conversion of DeciLMForCausalLM.
ModelConfig read_deci_config(const weights::WeightFile& file) {
  const ModelConfig config = read_common_config(file, {.per_layer = true});
  read_sizes(file, config);
  return config;
}

std::unique_ptr<Model> load_deci(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Deci>(file, backend, context);
}

}  // namespace neutrino::models
