// gpt-oss: OpenAI's open-weight 20B and 120B (OpenAI 2025).
//
//   x = embed(tokens)
//   for each layer:  x += attention(rms_norm(x));  x += mixture(rms_norm(x))
//   logits = head(rms_norm(x))
//
// Even layers see a window of positions, odd ones all. Each head has a sink, a logit that takes probability and gives nothing.
// The router is a softmax over the logits of the chosen alone; experts are SwiGLU with bounds and biases.

#include "models/architectures.h"
#include "models/layers.h"
#include "models/moe.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::Tensor;

namespace {

constexpr MoeDefaults kMoeDefaults{.gating = compute::Gating::softmax_of_selected,
                                   .function = compute::Function::swiglu_oai};

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size)
  std::vector<float> sinks;           // (heads); attention.shape refers to it
  Attention attention;
  FeedForward feed_forward;
};

class GptOss final : public Model {
 public:
  GptOss(const weights::WeightFile& file, Backend& backend, int64_t context);
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
  int64_t weight_bytes_ = 0;
};

GptOss::GptOss(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_gpt_oss_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  const int64_t hidden = config_.hidden_size, layers = config_.num_hidden_layers;
  moe_ = read_moe_config(file, hidden, kMoeDefaults);
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, compute::RopePairs::halves,
                                 read_rope_scaling(file, config_, context_));
  embeddings_ = load_embeddings(file, backend, config_);
  windows_ = read_windows(file, layers, 2);
  for (int64_t i = 0; i < layers; ++i) {
    Layer layer;
    layer.attention_norm = file.vector(layer_name(i, "attn_norm.weight"), hidden);
    layer.sinks = file.vector(layer_name(i, "attn_sinks.weight"), config_.num_attention_heads);
    compute::AttentionShape shape = attention_shape(config_);
    shape.window = windows_[i];
    shape.sinks = layer.sinks;
    layer.attention = load_attention(file, backend, i, hidden, shape, rope_.get(), eps_);
    layer.feed_forward = load_feed_forward(file, backend, i, config_, moe_, "post_attention_norm");
    layers_.push_back(std::move(layer));
  }
  weight_bytes_ = token_weight_bytes(file, moe_);
}

Tensor GptOss::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
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

// Keys: llama.cpp's conversion of GptOssForCausalLM.
ModelConfig read_gpt_oss_config(const weights::WeightFile& file) { return read_common_config(file); }

std::unique_ptr<Model> load_gpt_oss(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<GptOss>(file, backend, context);
}

}  // namespace neutrino::models
