// olmo2: OLMo 2 and 3 (OLMo Team 2024, "2 OLMo 2 Furious").
//
//   for each layer:  x += norm(attention(x));  x += norm(down(silu(gate x) * up x))
//   logits = head(norm(x))
//
// RMSNorm behind each part rather than before it, and over the whole rows of q and k. OLMo 3 looks back a window in three of
// four layers; only those that see everything stretch their positions.

#include "models/architectures.h"
#include "models/layers.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::RopePairs;
using compute::Tensor;

namespace {

struct Layer {
  Attention attention;
  std::vector<float> attention_post_norm;  // (hidden_size)
  GatedMlp mlp;
  std::vector<float> mlp_post_norm;  // (hidden_size)
};

class Olmo2 final : public Model {
 public:
  Olmo2(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override {
    return decoder_scratch_bytes(config_, rows, output_rows);
  }
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_, local_rope_;  // of layers that see everything, of those with a window
  float eps_ = 0;
  int64_t weight_bytes_ = 0;
};

Olmo2::Olmo2(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_olmo2_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  const int64_t hidden = config_.hidden_size, layers = config_.num_hidden_layers;
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, RopePairs::halves,
                                 read_rope_scaling(file, config_, context_));
  const double local_theta = read_number_or(file, "rope.freq_base_swa", 1, 1e12, config_.rope_theta);
  local_rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, local_theta, RopePairs::halves);
  embeddings_ = load_embeddings(file, backend, config_);
  windows_ = read_windows(file, layers, 4);
  for (int64_t i = 0; i < layers; ++i) {
    compute::AttentionShape shape = attention_shape(config_);
    shape.window = windows_[i];
    Layer layer;
    layer.attention =
        load_attention(file, backend, i, hidden, shape, windows_[i] > 0 ? local_rope_.get() : rope_.get(),
                       eps_, {.norm = QkNorm::whole_row});
    layer.attention_post_norm = file.vector(layer_name(i, "post_attention_norm.weight"), hidden);
    layer.mlp = load_gated_mlp(file, backend, i, hidden, config_.intermediate_size);
    layer.mlp_post_norm = file.vector(layer_name(i, "post_ffw_norm.weight"), hidden);
    layers_.push_back(std::move(layer));
  }
  weight_bytes_ = token_weight_bytes(file);
}

Tensor Olmo2::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    Tensor* const last = i + 1 == config_.num_hidden_layers ? &x : nullptr;
    const auto heads = attend(backend, layer.attention, backend.activation(x), batch, cache, i, last);
    const Tensor attended = linear(backend, heads, layer.attention.output);
    backend.rms_normalize(attended, layer.attention_post_norm, eps_);
    backend.add(x, attended);
    const Tensor mlp = linear(backend, gated(backend, layer.mlp, backend.activation(x)), layer.mlp.down);
    backend.rms_normalize(mlp, layer.mlp_post_norm, eps_);
    backend.add(x, mlp);
  }
  if (batch.output_rows.empty()) return {};
  return logits(backend, embeddings_, x, batch, eps_);
}

}  // namespace

// Keys: llama.cpp's conversion of Olmo2ForCausalLM and Olmo3ForCausalLM.
ModelConfig read_olmo2_config(const weights::WeightFile& file) { return read_common_config(file); }

std::unique_ptr<Model> load_olmo2(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Olmo2>(file, backend, context);
}

}  // namespace neutrino::models
