// Nemotron-H and its mixture-of-experts form, Nemotron 3 (NVIDIA 2025): each layer is one mixer of four kinds.
//
//   x = embed(tokens)
//   for each layer:  x += mixer(rms_norm(x));  mixer: Mamba2 | attention | down(relu(up x)^2) | mixture of experts
//   logits = head(rms_norm(x))
//
// Attention is grouped-query and knows no positions: the Mamba2 layers give them. Experts have no gate either; in the larger
// models they work on a projection of x (latent), while router and shared expert see x itself.
//
// A layer's kind follows from its keys, as in llama.cpp: with attention.head_count_kv it attends; with feed_forward_length it
// is an MLP, or a mixture where it has a router; with neither it is Mamba2. Prediction layers behind the last (nextn) are not
// run. Tensors beside those of mamba2.h and moe.h: attn_norm, attn_q, attn_k, attn_v, attn_output, ffn_up, ffn_down.

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "compute/scratch_bytes.h"
#include "models/architectures.h"
#include "models/layers.h"
#include "models/mamba2.h"
#include "models/moe.h"

namespace neutrino::models {

using compute::Activation;
using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::Tensor;

namespace {

enum class Kind : uint8_t { mamba2, attention, mlp, mixture };

struct LayerSizes {
  int64_t kv_heads = 0, intermediate = 0;
};

struct Layer {
  Kind kind = Kind::mamba2;
  int64_t cache_layer = 0;  // of Mamba2 in KvCacheShape::states, of attention in ::layers
  std::vector<float> norm;  // (hidden_size)
  Mamba2 mamba2;
  Attention attention;
  Linear up, down;  // of an MLP
  std::unique_ptr<Moe> moe;
};

std::vector<LayerSizes> read_sizes(const weights::WeightFile& file, const ModelConfig& config) {
  const int64_t all = read_size(file, "block_count", 1, limits::kLayers);
  const auto kv_heads = read_layer_sizes(file, "attention.head_count_kv", all, 0, kHeadsMax);
  const auto intermediate = read_layer_sizes(file, "feed_forward_length", all, 0, kHiddenMax);
  std::vector<LayerSizes> sizes;
  for (size_t i = 0; i < static_cast<size_t>(config.num_hidden_layers); ++i) {
    if (kv_heads[i] > 0 && intermediate[i] > 0)
      throw make_error(ErrorCode::invalid_argument,
                       "layer {} must attend or be an MLP, but has {} key heads and feed_forward_length {}",
                       i, kv_heads[i], intermediate[i]);
    if (kv_heads[i] > 0 && config.num_attention_heads % kv_heads[i] != 0)
      throw make_error(ErrorCode::invalid_argument,
                       "attention.head_count must be a multiple of layer {}'s head_count_kv, got {} and {}",
                       i, config.num_attention_heads, kv_heads[i]);
    sizes.push_back({kv_heads[i], intermediate[i]});
  }
  return sizes;
}

class NemotronH final : public Model {
 public:
  NemotronH(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }
  compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t state_slots) const override;

 private:
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t i,
                   const LayerSizes& sizes) const;
  void add_mixer(Backend& backend, const Layer& layer, Tensor& x, const Batch& batch, KvCache& cache) const;
  void add_mixture(Backend& backend, const Layer& layer, Tensor& x) const;

  Mamba2Config mamba2_;
  MoeConfig moe_;
  Embeddings embeddings_;
  std::vector<Layer> layers_;
  float eps_ = 0;
  int64_t weight_bytes_ = 0;
};

NemotronH::NemotronH(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_nemotron_h_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  mamba2_ = read_mamba2_config(file, config_.hidden_size, eps_);
  if (config_.architecture == "nemotron_h_moe")
    moe_ = read_moe_config(
        file, config_.hidden_size,
        {.gating = compute::Gating::sigmoid, .normalize = true, .function = compute::Function::relu_squared});
  embeddings_ = load_embeddings(file, backend, config_);
  int64_t attending = 0, recurrent = 0;
  for (const LayerSizes& sizes : read_sizes(file, config_)) {
    layers_.push_back(load_layer(file, backend, std::ssize(layers_), sizes));
    Layer& layer = layers_.back();
    if (layer.kind == Kind::attention) layer.cache_layer = attending++;
    if (layer.kind == Kind::mamba2) layer.cache_layer = recurrent++;
  }
  weight_bytes_ = token_weight_bytes(file);
}

Layer NemotronH::load_layer(const weights::WeightFile& file, Backend& backend, int64_t i,
                            const LayerSizes& sizes) const {
  const int64_t hidden = config_.hidden_size;
  Layer layer;
  layer.norm = file.vector(layer_name(i, "attn_norm.weight"), hidden);
  if (sizes.kv_heads > 0) {
    layer.kind = Kind::attention;
    compute::AttentionShape shape = attention_shape(config_);
    shape.num_key_value_heads = sizes.kv_heads;
    layer.attention = load_attention(file, backend, i, hidden, shape, nullptr, eps_);
  } else if (sizes.intermediate == 0) {
    layer.kind = Kind::mamba2;
    layer.mamba2 = load_mamba2(file, backend, i, mamba2_);
  } else if (moe_.router.experts > 0 && has_moe(file, i)) {
    layer.kind = Kind::mixture;
    layer.moe = load_moe(file, backend, i, moe_);
  } else {
    layer.kind = Kind::mlp;
    layer.up = load_linear(file, backend, layer_name(i, "ffn_up"), sizes.intermediate, hidden);
    layer.down = load_linear(file, backend, layer_name(i, "ffn_down"), hidden, sizes.intermediate);
  }
  return layer;
}

Tensor NemotronH::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (const Layer& layer : layers_) {
    const compute::ScratchScope scope(backend);
    if (layer.kind == Kind::mixture)
      add_mixture(backend, layer, x);
    else
      add_mixer(backend, layer, x, batch, cache);
  }
  if (batch.output_rows.empty()) return {};
  return logits(backend, embeddings_, x, batch, eps_);
}

void NemotronH::add_mixer(Backend& backend, const Layer& layer, Tensor& x, const Batch& batch,
                          KvCache& cache) const {
  const Activation normed = backend.rms_norm(x, layer.norm, eps_);
  if (layer.kind == Kind::mamba2)
    return add_mamba2(backend, layer.mamba2, x, normed, batch, cache, layer.cache_layer);
  if (layer.kind == Kind::attention)
    return linear_add(backend, x, attend(backend, layer.attention, normed, batch, cache, layer.cache_layer),
                      layer.attention.output);
  const Tensor up = linear(backend, normed, layer.up);
  backend.apply(up, compute::Function::relu_squared);
  linear_add(backend, x, backend.activation(up), layer.down);
}

void NemotronH::add_mixture(Backend& backend, const Layer& layer, Tensor& x) const {
  const Tensor normed = backend.copy(x);
  backend.rms_normalize(normed, layer.norm, eps_);
  add_moe(backend, *layer.moe, x, normed);
}

int64_t NemotronH::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const int64_t hidden = compute::scratch::result(rows, config_.hidden_size);
  const int64_t heads = config_.num_attention_heads * config_.head_dim;
  const int64_t attention =
      2 * compute::scratch::result(rows, heads) +
      compute::scratch::result(rows, heads + 2 * config_.num_key_value_heads * config_.head_dim);
  const int64_t mlp = 2 * compute::scratch::result(rows, config_.intermediate_size);
  const int64_t experts = moe_.router.experts > 0 ? moe_scratch_bytes(moe_, rows) : 0;
  const int64_t mixer = std::max({attention, mlp, experts, mamba2_scratch_bytes(mamba2_, rows)});
  const int64_t head = 2 * compute::scratch::result(output_rows, config_.hidden_size) +
                       2 * compute::scratch::result(output_rows, config_.vocab_size);
  return hidden + std::max(2 * hidden + mixer, head);
}

compute::KvCacheShape NemotronH::kv_cache_shape(int64_t blocks, int64_t state_slots) const {
  compute::KvCacheShape shape{.blocks = blocks, .state_slots = state_slots};
  for (const Layer& layer : layers_) {
    if (layer.kind == Kind::mamba2) shape.states.push_back(mamba2_.state_floats());
    if (layer.kind == Kind::attention)
      shape.layers.push_back({layer.attention.shape.num_key_value_heads, config_.head_dim, config_.head_dim});
  }
  return shape;
}

}  // namespace

// Keys: llama.cpp's conversion of NemotronHForCausalLM. Its norms are RMSNorm, whichever key names their epsilon.
ModelConfig read_nemotron_h_config(const weights::WeightFile& file) {
  const std::string rms = "attention.layer_norm_rms_epsilon";
  const bool has_rms = file.metadata().has(
      fmt::format("{}.{}", file.metadata().text("general.architecture").value_or(""), rms));
  ModelConfig config = read_common_config(
      file, {.epsilon = has_rms ? rms : std::string_view("attention.layer_norm_epsilon"), .per_layer = true});
  config.recurrent = true;
  config.num_hidden_layers -= read_size_or(file, "nextn_predict_layers", 0, config.num_hidden_layers - 1, 0);
  read_sizes(file, config);
  return config;
}

std::unique_ptr<Model> load_nemotron_h(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<NemotronH>(file, backend, context);
}

}  // namespace neutrino::models
