// llama and its twins: Llama 2 and 3, Mistral, SmolLM2 (Touvron et al. 2023, "LLaMA"), Mixtral, SmolLM3, ERNIE 4.5, Qwen 2 and
// 3, Phi 3.
//
//   x = embed(tokens)
//   for each layer:  x += attention(rms_norm(x));  x += down(silu(gate(rms_norm(x))) * up(rms_norm(x)))
//   logits = head(rms_norm(x))
//
// Grouped-query attention with rotary positions. What a twin does otherwise stands in kVariants: which dimensions rotate
// together (GGUF stores llama's q and k with the pairs side by side), biases, norms of q and k, layers without positions. In
// Mixtral a router sends each row to a few of the layer's MLPs. With a pooling (Qwen3-Embedding, Qwen3-Reranker and other
// embedders made of decoders) the final hidden states are the output, and with pooling `rank` a score is made of the last one.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/limits.h"
#include "compute/scratch_bytes.h"
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

struct Variant {
  std::string_view architecture;
  RopePairs pairs = RopePairs::adjacent;
  AttentionOptions attention = {};
  int64_t rope_period = 0;  // every so manieth layer has no positions; 0: all have
};

constexpr Variant kVariants[] = {
    {.architecture = "llama"},
    {.architecture = "smollm3", .rope_period = 4},
    {.architecture = "ernie4_5"},
    {.architecture = "qwen2", .pairs = RopePairs::halves, .attention = {.bias = Bias::required}},
    {.architecture = "qwen3", .pairs = RopePairs::halves, .attention = {.norm = QkNorm::per_head}},
    {.architecture = "phi3", .pairs = RopePairs::halves},
};

const Variant& find_variant(std::string_view architecture) {
  const auto found = std::ranges::find(kVariants, architecture, &Variant::architecture);
  check(found != std::end(kVariants), "the registry names what this file knows");
  return *found;
}

// Which layers rotate: one flag a layer.
std::vector<int64_t> rope_layers(const weights::WeightFile& file, const Variant& variant, int64_t layers) {
  std::vector<int64_t> rotates = read_layer_sizes_or(file, "attention.rope_pattern", layers, 0, 1, 1);
  if (variant.rope_period > 0 &&
      !file.metadata().has(fmt::format("{}.attention.rope_pattern", variant.architecture)))
    for (int64_t i = variant.rope_period - 1; i < layers; i += variant.rope_period) rotates[i] = 0;
  return rotates;
}

// Mixtral: the softmax over the best experts_used of a layer's experts. Without experts: 0 of them.
compute::RouterShape read_router(const weights::WeightFile& file) {
  compute::RouterShape router{.experts = read_size_or(file, "expert_count", 0, limits::kExperts, 0)};
  if (router.experts == 0) return router;
  router.experts_used = read_size(file, "expert_used_count", 1, router.experts);
  router.gating = compute::Gating::softmax_of_selected;
  return router;
}

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size)
  Attention attention;
  std::vector<float> mlp_norm;  // (hidden_size)
  GatedMlp mlp;                 // or, in a mixture:
  std::vector<float> router;    // (experts, hidden_size)
  std::unique_ptr<compute::Experts> experts;
};

class Llama final : public Model {
 public:
  Llama(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }
  int64_t output_columns() const override {
    return config_.pooling == Pooling::none ? config_.vocab_size : config_.hidden_size;
  }
  Tensor finish(Backend& backend, const Tensor& pooled) const override;

 private:
  void load_mlp(const weights::WeightFile& file, Backend& backend, int64_t index, Layer& layer) const;
  void add_mlp(Backend& backend, Tensor& x, const Layer& layer) const;

  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_;
  compute::RouterShape router_;  // of a mixture
  Linear scores_;                // (scores, hidden_size), with pooling rank
  float eps_ = 0;
  int64_t weight_bytes_ = 0;  // read for one token: all layers and the head
};

Llama::Llama(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_llama_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  const Variant& variant = find_variant(config_.architecture);
  const int64_t hidden = config_.hidden_size, layers = config_.num_hidden_layers;
  const auto rotates = rope_layers(file, variant, layers);
  windows_ = read_windows(file, layers, 0);
  router_ = read_router(file);
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, variant.pairs,
                                 read_rope_scaling(file, config_, context_));
  embeddings_ = load_embeddings(file, backend, config_);
  for (int64_t i = 0; i < layers; ++i) {
    compute::AttentionShape shape = attention_shape(config_);
    shape.window = windows_[i];
    shape.causal = !config_.bidirectional;
    Layer layer;
    layer.attention_norm = file.vector(layer_name(i, "attn_norm.weight"), hidden);
    layer.attention = load_attention(file, backend, i, hidden, shape, rotates[i] ? rope_.get() : nullptr,
                                     eps_, variant.attention);
    layer.mlp_norm = file.vector(layer_name(i, "ffn_norm.weight"), hidden);
    load_mlp(file, backend, i, layer);
    layers_.push_back(std::move(layer));
  }
  if (config_.pooling == Pooling::rank)
    scores_ = load_linear(file, backend, "cls.output", leading_size(file, "cls.output.weight"), hidden);
  weight_bytes_ = token_weight_bytes(file);
}

void Llama::load_mlp(const weights::WeightFile& file, Backend& backend, int64_t index, Layer& layer) const {
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  if (router_.experts == 0) {
    layer.mlp = load_gated_mlp(file, backend, index, hidden, intermediate);
    return;
  }
  const int64_t experts = router_.experts;
  const auto part = [&](std::string_view name, int64_t rows, int64_t columns) {
    return file.matrices(layer_name(index, name), experts, rows, columns);
  };
  layer.router = load_float_matrix(file, layer_name(index, "ffn_gate_inp.weight"), experts, hidden);
  layer.experts = backend.load_experts({.gate = part("ffn_gate_exps.weight", intermediate, hidden),
                                        .up = part("ffn_up_exps.weight", intermediate, hidden),
                                        .down = part("ffn_down_exps.weight", hidden, intermediate)});
}

Tensor Llama::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const auto normed = backend.rms_norm(x, layer.attention_norm, eps_);
    Tensor* const last = i + 1 == config_.num_hidden_layers ? &x : nullptr;
    linear_add(backend, x, attend(backend, layer.attention, normed, batch, cache, i, last),
               layer.attention.output);
    add_mlp(backend, x, layer);
  }
  if (batch.output_rows.empty()) return {};
  if (config_.pooling != Pooling::none) return final_states(backend, embeddings_, x, batch, eps_);
  return logits(backend, embeddings_, x, batch, eps_);
}

Tensor Llama::finish(Backend& backend, const Tensor& pooled) const {
  return config_.pooling == Pooling::rank ? linear(backend, backend.activation(pooled), scores_) : pooled;
}

void Llama::add_mlp(Backend& backend, Tensor& x, const Layer& layer) const {
  if (!layer.experts) {
    linear_add(backend, x, gated(backend, layer.mlp, backend.rms_norm(x, layer.mlp_norm, eps_)),
               layer.mlp.down);
    return;
  }
  const Tensor normed = backend.copy(x);
  backend.rms_normalize(normed, layer.mlp_norm, eps_);
  const Tensor scores = backend.matmul_float(normed, layer.router, router_.experts);
  backend.experts_add(x, backend.activation(normed), *layer.experts, backend.route(scores, router_));
}

int64_t Llama::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const int64_t experts = router_.experts, used = router_.experts_used;
  const int64_t dense = decoder_scratch_bytes(config_, rows, output_rows);
  if (experts == 0) return dense;
  namespace scratch = compute::scratch;
  return dense + scratch::result(rows, experts) + scratch::route(rows, experts, used) +
         scratch::experts_add(rows, experts, used, config_.hidden_size, config_.intermediate_size);
}

}  // namespace

// Keys: llama.cpp's conversion of LlamaForCausalLM and the twins (spec: ggml's gguf.md).
ModelConfig read_llama_config(const weights::WeightFile& file) {
  read_router(file);
  ModelConfig config = read_common_config(file);
  config.pooling = read_pooling(file, Pooling::none);
  config.score_rows = Pooling::last;
  config.bidirectional = !read_flag_or(file, "attention.causal", true);
  return config;
}

std::unique_ptr<Model> load_llama(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Llama>(file, backend, context);
}

}  // namespace neutrino::models
