// Qwen3-Next and Qwen 3.5 (3.6): most layers are gated delta nets, every fourth attends (Qwen team 2025).
//
//   x = embed(tokens)
//   for each layer:  x += mixer(rms_norm(x));  x += feed_forward(rms_norm(x))
//   logits = head(rms_norm(x))
//
// mixer is a delta net (delta_net.h) or grouped-query attention with norms of q and k, rotary positions in a part of each
// head, and a gate: output(sigmoid(gate x) * values). feed_forward is a gated MLP, or in most a mixture of experts with a
// shared expert. Prediction layers behind the last (nextn) are not run.
//
// Tensors beside those of delta_net.h and moe.h: attn_norm, post_attention_norm; attn_q, which has for each head its rows of q
// and then of the gate, attn_k, attn_v, attn_q_norm, attn_k_norm, attn_output. Keys: full_attention_interval (4) or
// attention.recurrent_layers.

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "compute/scratch_bytes.h"
#include "models/architectures.h"
#include "models/delta_net.h"
#include "models/layers.h"
#include "models/moe.h"

namespace neutrino::models {

using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::Tensor;

namespace {

struct GatedAttention {
  std::unique_ptr<compute::Matrix> input;  // q, k, v and the gate, stacked
  std::vector<float> q_norm, k_norm;       // (head_dim)
  std::unique_ptr<compute::Matrix> output;
};

struct Layer {
  bool recurrent = false;
  int64_t cache_layer = 0;        // counts in KvCacheShape::states if recurrent, else in ::layers
  std::vector<float> mixer_norm;  // (hidden_size)
  GatedAttention attention;       // unless recurrent
  DeltaNet delta_net;             // if recurrent
  std::vector<float> mlp_norm;    // (hidden_size)
  GatedMlp mlp;                   // without `moe`
  std::unique_ptr<Moe> moe;
};

class Qwen3Next final : public Model {
 public:
  Qwen3Next(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }
  compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t state_slots) const override;

 private:
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t i, bool recurrent) const;
  GatedAttention load_gated_attention(const weights::WeightFile& file, Backend& backend, int64_t i) const;
  void add_attention(Backend& backend, const Layer& layer, Tensor& x, const Batch& batch,
                     KvCache& cache) const;
  void add_feed_forward(Backend& backend, const Layer& layer, Tensor& x) const;
  int64_t heads_columns() const { return config_.num_attention_heads * config_.head_dim; }
  int64_t qkv_columns() const { return heads_columns() + 2 * config_.num_key_value_heads * config_.head_dim; }

  DeltaNetConfig delta_net_;
  MoeConfig moe_;
  compute::AttentionShape attention_;
  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_;
  float eps_ = 0;
  int64_t weight_bytes_ = 0;
};

// One flag a layer; the file counts prediction layers, too.
std::vector<int64_t> read_recurrent_layers(const weights::WeightFile& file, int64_t layers) {
  const int64_t all = read_size(file, "block_count", 1, limits::kLayers);
  if (file.metadata().has(fmt::format("{}.attention.recurrent_layers",
                                      file.metadata().text("general.architecture").value_or(""))))
    return read_layer_sizes(file, "attention.recurrent_layers", all, 0, 1);
  const int64_t interval = read_size_or(file, "full_attention_interval", 1, limits::kLayers, 4);
  std::vector<int64_t> recurrent(static_cast<size_t>(layers));
  for (int64_t i = 0; i < layers; ++i) recurrent[static_cast<size_t>(i)] = (i + 1) % interval != 0;
  return recurrent;
}

Qwen3Next::Qwen3Next(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_qwen3next_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  attention_ = attention_shape(config_);
  delta_net_ = read_delta_net_config(
      file, config_.hidden_size, eps_,
      config_.architecture == "qwen3next" ? ValueHeads::by_key_head : ValueHeads::dealt_out);
  if (config_.architecture != "qwen35")
    moe_ =
        read_moe_config(file, config_.hidden_size, {.gating = compute::Gating::softmax, .normalize = true});
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, compute::RopePairs::halves,
                                 read_rope_scaling(file, config_, context_));
  embeddings_ = load_embeddings(file, backend, config_);
  const auto recurrent = read_recurrent_layers(file, config_.num_hidden_layers);
  for (int64_t i = 0, counts[2] = {}; i < config_.num_hidden_layers; ++i) {
    const bool is_recurrent = recurrent[static_cast<size_t>(i)] != 0;
    layers_.push_back(load_layer(file, backend, i, is_recurrent));
    layers_.back().cache_layer = counts[is_recurrent]++;
  }
  weight_bytes_ = token_weight_bytes(file);
}

Layer Qwen3Next::load_layer(const weights::WeightFile& file, Backend& backend, int64_t i,
                            bool recurrent) const {
  Layer layer;
  layer.recurrent = recurrent;
  layer.mixer_norm = file.vector(layer_name(i, "attn_norm.weight"), config_.hidden_size);
  if (recurrent)
    layer.delta_net = load_delta_net(file, backend, i, delta_net_);
  else
    layer.attention = load_gated_attention(file, backend, i);
  layer.mlp_norm = file.vector(layer_name(i, "post_attention_norm.weight"), config_.hidden_size);
  if (moe_.router.experts > 0 && has_moe(file, i))
    layer.moe = load_moe(file, backend, i, moe_);
  else
    layer.mlp = load_gated_mlp(file, backend, i, config_.hidden_size, config_.intermediate_size);
  return layer;
}

// The rows of q stand apart from those of the gate then, which no head's product needs.
GatedAttention Qwen3Next::load_gated_attention(const weights::WeightFile& file, Backend& backend,
                                               int64_t i) const {
  const int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads, dim = config_.head_dim;
  const int64_t kv_rows = config_.num_key_value_heads * dim;
  const compute::WeightView q_and_gate = file.matrix(layer_name(i, "attn_q.weight"), 2 * heads * dim, hidden);
  std::vector<compute::WeightView> parts, gates;
  for (int64_t head = 0; head < heads; ++head) {
    parts.push_back(matrix_rows(q_and_gate, 2 * head * dim, dim));
    gates.push_back(matrix_rows(q_and_gate, (2 * head + 1) * dim, dim));
  }
  parts.push_back(file.matrix(layer_name(i, "attn_k.weight"), kv_rows, hidden));
  parts.push_back(file.matrix(layer_name(i, "attn_v.weight"), kv_rows, hidden));
  parts.insert(parts.end(), gates.begin(), gates.end());
  GatedAttention attention;
  attention.input = backend.load_matrix(parts);
  attention.q_norm = file.vector(layer_name(i, "attn_q_norm.weight"), dim);
  attention.k_norm = file.vector(layer_name(i, "attn_k_norm.weight"), dim);
  const compute::WeightView out = file.matrix(layer_name(i, "attn_output.weight"), hidden, heads * dim);
  attention.output = backend.load_matrix({&out, 1});
  return attention;
}

Tensor Qwen3Next::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (const Layer& layer : layers_) {
    const compute::ScratchScope scope(backend);
    if (layer.recurrent)
      add_delta_net(backend, layer.delta_net, x, backend.rms_norm(x, layer.mixer_norm, eps_), batch, cache,
                    layer.cache_layer);
    else
      add_attention(backend, layer, x, batch, cache);
    add_feed_forward(backend, layer, x);
  }
  if (batch.output_rows.empty()) return {};
  return logits(backend, embeddings_, x, batch, eps_);
}

void Qwen3Next::add_attention(Backend& backend, const Layer& layer, Tensor& x, const Batch& batch,
                              KvCache& cache) const {
  const GatedAttention& attention = layer.attention;
  const Tensor all = backend.matmul(backend.rms_norm(x, layer.mixer_norm, eps_), *attention.input);
  const int64_t q = heads_columns(), k = config_.num_key_value_heads * config_.head_dim;
  Tensor qkv = columns(all, 0, q + 2 * k);
  Tensor gate = columns(all, q + 2 * k, q);
  backend.rms_normalize(columns(qkv, 0, q), attention.q_norm, eps_);
  backend.rms_normalize(columns(qkv, q, k), attention.k_norm, eps_);
  backend.rope_and_store(qkv, rope_->table(), attention_, batch, cache, layer.cache_layer);
  Tensor* const tensors[] = {&qkv, &gate, &x};
  const bool last = &layer == &layers_.back();
  const Tensor values = backend.attention_values(
      qkv, attention_, last ? backend.narrow(batch, tensors) : batch, cache, layer.cache_layer);
  backend.apply(gate, compute::Function::sigmoid);
  backend.multiply(values, gate);
  backend.matmul_add(x, backend.activation(values), *attention.output);
}

void Qwen3Next::add_feed_forward(Backend& backend, const Layer& layer, Tensor& x) const {
  if (!layer.moe)
    return linear_add(backend, x, gated(backend, layer.mlp, backend.rms_norm(x, layer.mlp_norm, eps_)),
                      layer.mlp.down);
  const Tensor normed = backend.copy(x);
  backend.rms_normalize(normed, layer.mlp_norm, eps_);
  add_moe(backend, *layer.moe, x, normed);
}

int64_t Qwen3Next::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const int64_t hidden = compute::scratch::result(rows, config_.hidden_size);
  const int64_t attention = compute::scratch::result(rows, qkv_columns() + heads_columns()) +
                            3 * compute::scratch::result(rows, heads_columns());
  const int64_t mixer = std::max(attention, delta_net_scratch_bytes(delta_net_, rows));
  const int64_t mlp = 3 * compute::scratch::result(rows, config_.intermediate_size);
  const int64_t experts = moe_.router.experts > 0 ? moe_scratch_bytes(moe_, rows) : 0;
  const int64_t head = 2 * compute::scratch::result(output_rows, config_.hidden_size) +
                       2 * compute::scratch::result(output_rows, config_.vocab_size);
  return hidden + std::max(4 * hidden + mixer + std::max(mlp, experts), head);
}

compute::KvCacheShape Qwen3Next::kv_cache_shape(int64_t blocks, int64_t state_slots) const {
  compute::KvCacheShape shape{.blocks = blocks, .state_slots = state_slots};
  for (const Layer& layer : layers_)
    if (layer.recurrent)
      shape.states.push_back(delta_net_.state_floats());
    else
      shape.layers.push_back({config_.num_key_value_heads, config_.head_dim, config_.head_dim});
  return shape;
}

}  // namespace

// Keys: llama.cpp's conversion of Qwen3NextForCausalLM and Qwen3_5(Moe)ForConditionalGeneration.
ModelConfig read_qwen3next_config(const weights::WeightFile& file) {
  ModelConfig config = read_common_config(file, {.feed_forward_optional = true});
  config.recurrent = true;
  config.num_hidden_layers -= read_size_or(file, "nextn_predict_layers", 0, config.num_hidden_layers - 1, 0);
  return config;
}

std::unique_ptr<Model> load_qwen3next(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Qwen3Next>(file, backend, context);
}

}  // namespace neutrino::models
