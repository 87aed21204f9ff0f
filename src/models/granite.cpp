// granite: IBM's Granite 3 (Granite Team 2024): llama's layers with four factors, so that one set of training parameters
// serves every size (Yang et al. 2022, "Tensor Programs V").
//
//   x = e embed(tokens)
//   for each layer:  x += r attention(norm(x));  x += r down(silu(gate(norm(x))) * up(norm(x)))
//   logits = head(norm(x)) / l
//
// and the scores of attention have a scale that the file gives.

#include "models/architectures.h"
#include "models/layers.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::Tensor;

namespace {

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size)
  Attention attention;
  std::vector<float> mlp_norm;  // (hidden_size)
  GatedMlp mlp;
};

class Granite final : public Model {
 public:
  Granite(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override {
    return decoder_scratch_bytes(config_, rows, output_rows);
  }
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  void add_scaled(Backend& backend, const Tensor& x, const Tensor& part) const {
    backend.scale(part, residual_multiplier_);
    backend.add(x, part);
  }

  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_;
  float eps_ = 0;
  float embedding_multiplier_ = 1, residual_multiplier_ = 1, logits_scaling_ = 1;  // e, r and l above
  int64_t weight_bytes_ = 0;
};

float factor(const weights::WeightFile& file, std::string_view key, double fallback) {
  return static_cast<float>(read_number_or(file, key, 1e-6, 1e6, fallback));
}

Granite::Granite(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_granite_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  embedding_multiplier_ = factor(file, "embedding_scale", 1);
  residual_multiplier_ = factor(file, "residual_scale", 1);
  logits_scaling_ = factor(file, "logit_scale", 1);
  compute::AttentionShape shape = attention_shape(config_);
  shape.scale = factor(file, "attention.scale", shape.scale);
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta,
                                 compute::RopePairs::adjacent, read_rope_scaling(file, config_, context_));
  const Rope* rope = read_flag_or(file, "rope.scaling.finetuned", true) ? rope_.get() : nullptr;
  embeddings_ = load_embeddings(file, backend, config_);
  const int64_t hidden = config_.hidden_size;
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    Layer layer;
    layer.attention_norm = file.vector(layer_name(i, "attn_norm.weight"), hidden);
    layer.attention = load_attention(file, backend, i, hidden, shape, rope, eps_);
    layer.mlp_norm = file.vector(layer_name(i, "ffn_norm.weight"), hidden);
    layer.mlp = load_gated_mlp(file, backend, i, hidden, config_.intermediate_size);
    layers_.push_back(std::move(layer));
  }
  weight_bytes_ = token_weight_bytes(file);
}

Tensor Granite::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  backend.scale(x, embedding_multiplier_);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const auto normed = backend.rms_norm(x, layer.attention_norm, eps_);
    Tensor* const last = i + 1 == config_.num_hidden_layers ? &x : nullptr;
    const auto heads = attend(backend, layer.attention, normed, batch, cache, i, last);
    add_scaled(backend, x, linear(backend, heads, layer.attention.output));
    const auto hidden = gated(backend, layer.mlp, backend.rms_norm(x, layer.mlp_norm, eps_));
    add_scaled(backend, x, linear(backend, hidden, layer.mlp.down));
  }
  if (batch.output_rows.empty()) return {};
  const Tensor result = logits(backend, embeddings_, x, batch, eps_);
  backend.scale(result, 1 / logits_scaling_);
  return result;
}

}  // namespace

// Keys: llama.cpp's conversion of GraniteForCausalLM.
ModelConfig read_granite_config(const weights::WeightFile& file) { return read_common_config(file); }

std::unique_ptr<Model> load_granite(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Granite>(file, backend, context);
}

}  // namespace neutrino::models
