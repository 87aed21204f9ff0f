// gemma2 and gemma3, the text models (Gemma Team 2024 and 2025), and gemma-embedding, an encoder made of the latter.
//
//   x = sqrt(hidden_size) embed(tokens)
//   for each layer:  x += norm(attention(norm(x)));  x += norm(down(gelu(gate(norm(x))) * up(norm(x))))
//   logits = embed^T norm(x)
//
// All norms are RMSNorm, with weights that the file stores one higher than the authors do. Most layers look back a window
// only. Gemma 2 caps scores and logits with c tanh(x / c); Gemma 3 normalises q and k of each head instead, and its windowed
// layers rotate with a base of their own and without the stretching of the others. EmbeddingGemma looks both ways, half of a
// window on each side, and its pooled states go through up to two matrices.

#include <cmath>

#include "models/architectures.h"
#include "models/layers.h"
#include "models/pooling.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::RopePairs;
using compute::Tensor;

namespace {

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size), as all four
  Attention attention;
  std::vector<float> attention_post_norm;
  std::vector<float> mlp_norm;
  GatedMlp mlp;
  std::vector<float> mlp_post_norm;
};

class Gemma final : public Model {
 public:
  Gemma(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override {
    return decoder_scratch_bytes(config_, rows, output_rows);
  }
  int64_t weight_bytes() const override { return weight_bytes_; }
  int64_t output_columns() const override {
    return config_.pooling == Pooling::none ? config_.vocab_size : config_.hidden_size;
  }
  Tensor finish(Backend& backend, const Tensor& pooled) const override;

 private:
  void make_ropes(const weights::WeightFile& file);
  void load_dense(const weights::WeightFile& file, Backend& backend);
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t index, int64_t window) const;
  compute::AttentionShape shape(const weights::WeightFile& file, int64_t window) const;

  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::vector<Linear> dense_;                // gemma-embedding: what follows pooling
  std::unique_ptr<Rope> rope_, local_rope_;  // of layers that see everything, of those with a window
  float eps_ = 0;
  float logit_cap_ = 0;  // 0: none
  bool gemma3_ = false;
  int64_t weight_bytes_ = 0;
};

Gemma::Gemma(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_gemma_config(file);
  context_ = context;
  gemma3_ = config_.architecture != "gemma2";
  eps_ = static_cast<float>(config_.rms_norm_eps);
  logit_cap_ = static_cast<float>(read_number_or(file, "final_logit_softcapping", 0, 1e6, gemma3_ ? 0 : 30));
  make_ropes(file);
  embeddings_ = load_embeddings(file, backend, config_);
  windows_ = read_windows(file, config_.num_hidden_layers, gemma3_ ? 6 : 2, gemma3_ ? 0 : 4096);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i)
    layers_.push_back(load_layer(file, backend, i, windows_[i]));
  load_dense(file, backend);
  weight_bytes_ = token_weight_bytes(file);
}

// dense_2 (to any width) and dense_3 (back to the width of the states).
void Gemma::load_dense(const weights::WeightFile& file, Backend& backend) {
  int64_t width = config_.hidden_size;
  for (const char* name : {"dense_2", "dense_3"}) {
    if (config_.pooling == Pooling::none || !file.find(std::string(name) + ".weight")) continue;
    const int64_t rows = leading_size(file, std::string(name) + ".weight");
    dense_.push_back(load_linear(file, backend, name, rows, width, Bias::none));
    width = rows;
  }
}

Tensor Gemma::finish(Backend& backend, const Tensor& pooled) const {
  Tensor x = pooled;
  for (const Linear& dense : dense_) x = linear(backend, backend.activation(x), dense);
  return x;
}

void Gemma::make_ropes(const weights::WeightFile& file) {
  const RopeScaling scaling = read_rope_scaling(file, config_, context_);
  rope_ =
      std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, RopePairs::halves, scaling);
  const double local_theta =
      read_number_or(file, "rope.freq_base_swa", 1, 1e12, gemma3_ ? 10000 : config_.rope_theta);
  local_rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, local_theta, RopePairs::halves,
                                       gemma3_ ? RopeScaling{} : scaling);
}

// The scale is 1 / sqrt(query_pre_attn_scalar): the head's width, but hidden_size / heads in the 27B models, which files
// without attention.scale tell by their number of layers.
compute::AttentionShape Gemma::shape(const weights::WeightFile& file, int64_t window) const {
  const bool is_27b = config_.num_hidden_layers == (gemma3_ ? 62 : 46);
  const int64_t scalar = is_27b ? config_.hidden_size / config_.num_attention_heads : config_.head_dim;
  compute::AttentionShape shape = attention_shape(config_);
  shape.scale = static_cast<float>(
      read_number_or(file, "attention.scale", 1e-6, 1e6, 1.0 / std::sqrt(static_cast<double>(scalar))));
  shape.causal = !config_.bidirectional;
  shape.window = config_.bidirectional && window > 0 ? window / 2 + 1 : window;
  shape.softcap =
      static_cast<float>(read_number_or(file, "attn_logit_softcapping", 0, 1e6, gemma3_ ? 0 : 50));
  return shape;
}

Layer Gemma::load_layer(const weights::WeightFile& file, Backend& backend, int64_t index,
                        int64_t window) const {
  const int64_t hidden = config_.hidden_size;
  const auto norm = [&](std::string_view part) { return file.vector(layer_name(index, part), hidden); };
  Layer layer;
  layer.attention_norm = norm("attn_norm.weight");
  layer.attention = load_attention(file, backend, index, hidden, shape(file, window),
                                   window > 0 ? local_rope_.get() : rope_.get(), eps_,
                                   {.norm = gemma3_ ? QkNorm::per_head : QkNorm::none});
  layer.attention_post_norm = norm("post_attention_norm.weight");
  layer.mlp_norm = norm("ffn_norm.weight");
  layer.mlp =
      load_gated_mlp(file, backend, index, hidden, config_.intermediate_size, compute::Function::gelu_tanh);
  layer.mlp_post_norm = norm("post_ffw_norm.weight");
  return layer;
}

Tensor Gemma::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  backend.scale(x, std::sqrt(static_cast<float>(config_.hidden_size)));
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const auto normed = backend.rms_norm(x, layer.attention_norm, eps_);
    Tensor* const last = i + 1 == config_.num_hidden_layers ? &x : nullptr;
    const auto heads = attend(backend, layer.attention, normed, batch, cache, i, last);
    const Tensor attended = linear(backend, heads, layer.attention.output);
    backend.rms_normalize(attended, layer.attention_post_norm, eps_);
    backend.add(x, attended);
    const Tensor mlp =
        linear(backend, gated(backend, layer.mlp, backend.rms_norm(x, layer.mlp_norm, eps_)), layer.mlp.down);
    backend.rms_normalize(mlp, layer.mlp_post_norm, eps_);
    backend.add(x, mlp);
  }
  if (batch.output_rows.empty()) return {};
  if (config_.pooling != Pooling::none) return final_states(backend, embeddings_, x, batch, eps_);
  const Tensor result = logits(backend, embeddings_, x, batch, eps_);
  if (logit_cap_ > 0) backend.softcap(result, logit_cap_);
  return result;
}

}  // namespace

// Keys: llama.cpp's conversion of Gemma2ForCausalLM, Gemma3ForCausalLM and Gemma3TextModel; attention.scale is ours.
ModelConfig read_gemma_config(const weights::WeightFile& file) {
  ModelConfig config = read_common_config(file);
  config.bidirectional = config.architecture == "gemma-embedding";
  config.pooling = config.bidirectional ? read_pooling(file, Pooling::mean) : Pooling::none;
  return config;
}

std::unique_ptr<Model> load_gemma(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Gemma>(file, backend, context);
}

}  // namespace neutrino::models
