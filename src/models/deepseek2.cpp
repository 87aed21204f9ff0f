// deepseek2: DeepSeek V2, V2-Lite, V3, R1 and what shares their code (DeepSeek 2024, "DeepSeek-V2": multi-head latent attention).
//
//   x = embed(tokens)
//   for each layer:  x += latent_attention(rms_norm(x));  x += mixture(rms_norm(x)), or an MLP in the first layers
//   logits = head(rms_norm(x))
//
// Latent attention caches one vector c of kv_lora_rank a token, from which every head's key and value could be made, and one
// rotated part k_pe that all heads share. Here it always runs in the absorbed form: a head's query goes through W_UK
// (q' = W_UK^T q_nope), so that it meets c itself, and the sum over c goes through W_UV to become the head's output. For the
// operations that is one key/value head of keys [k_pe | c] and values c; the rotated part stands first because rope turns
// the first rotary_dim of a head. One form for prefill and decode, because two would give two roundings.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "base/limits.h"
#include "compute/scratch_bytes.h"
#include "models/architectures.h"
#include "models/layers.h"
#include "models/moe.h"

namespace neutrino::models {

using compute::Activation;
using compute::Backend;
using compute::Batch;
using compute::columns;
using compute::KvCache;
using compute::Matrix;
using compute::Tensor;
using compute::WeightView;

namespace {

constexpr float kLatentNormEps =
    1e-6f;  // of the norms inside attention, whatever rms_norm_eps says (the authors' code)

struct Dimensions {
  int64_t q_lora_rank = 0;  // 0: q comes from the hidden state itself (V2-Lite)
  int64_t kv_lora_rank = 0;
  int64_t qk_nope_head_dim = 0;
  int64_t qk_rope_head_dim = 0;
  int64_t v_head_dim = 0;
  int64_t qk_head_dim() const { return qk_nope_head_dim + qk_rope_head_dim; }
  int64_t key_dim() const { return qk_rope_head_dim + kv_lora_rank; }  // of the cache's keys
};

struct Layer {
  std::vector<float> attention_norm;         // (hidden_size)
  Linear q_a;                                // (q_lora_rank, hidden_size); no weight without q_lora_rank
  std::vector<float> q_a_norm;               // (q_lora_rank)
  Linear q;                                  // (heads * qk_head_dim, q_lora_rank or hidden_size): q_b or q
  std::unique_ptr<Matrix> kv_a;              // (key_dim, hidden_size): [k_pe | c]
  std::vector<float> kv_a_norm;              // (kv_lora_rank)
  std::vector<std::unique_ptr<Matrix>> k_b;  // of each head (kv_lora_rank, qk_nope_head_dim): W_UK^T
  std::vector<std::unique_ptr<Matrix>> v_b;  // of each head (v_head_dim, kv_lora_rank): W_UV
  Linear output;                             // (hidden_size, heads * v_head_dim)
  FeedForward feed_forward;
};

class DeepSeek2 final : public Model {
 public:
  DeepSeek2(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }
  compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t state_slots) const override;

 private:
  void load_attention(const weights::WeightFile& file, Backend& backend, int64_t index, Layer& layer) const;
  void add_attention(Backend& backend, const Layer& layer, int64_t index, Tensor& x, const Batch& batch,
                     KvCache& cache) const;
  Tensor queries(Backend& backend, const Layer& layer, const Activation& x) const;
  Tensor latent_qkv(Backend& backend, const Layer& layer, const Activation& x) const;

  Dimensions dims_;
  MoeConfig moe_;
  Embeddings embeddings_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> rope_;
  compute::AttentionShape attention_;
  int64_t weight_bytes_ = 0;
};

// The transpose, in float32.
WeightView transposed(const WeightView& view) {
  auto values = std::make_shared<std::vector<float>>(static_cast<size_t>(view.rows * view.columns));
  std::vector<float> row(static_cast<size_t>(view.columns));
  const int64_t row_bytes = *compute::matrix_bytes(view.dtype, 1, view.columns);
  for (int64_t r = 0; r < view.rows; ++r) {
    compute::dequantize_row(view.dtype, view.data + r * row_bytes, view.columns, row.data());
    for (int64_t c = 0; c < view.columns; ++c) (*values)[c * view.rows + r] = row[c];
  }
  return {.data = reinterpret_cast<const std::byte*>(values->data()),
          .dtype = compute::DType::f32,
          .rows = view.columns,
          .columns = view.rows,
          .scale = view.scale,
          .owner = values};
}

std::unique_ptr<Matrix> load(Backend& backend, const WeightView& view) {
  return backend.load_matrix({&view, 1});
}

// Files made before llama.cpp absorbed: one attn_kv_b of every head's rows [k_nope | v].
void load_kv_b(const weights::WeightFile& file, Backend& backend, const std::string& name, int64_t heads,
               const Dimensions& dims, Layer& layer) {
  const int64_t head_rows = dims.qk_nope_head_dim + dims.v_head_dim;
  const WeightView kv_b = file.matrix(name, heads * head_rows, dims.kv_lora_rank);
  for (int64_t head = 0; head < heads; ++head) {
    const int64_t first = head * head_rows;
    layer.k_b.push_back(load(backend, transposed(matrix_rows(kv_b, first, dims.qk_nope_head_dim))));
    layer.v_b.push_back(load(backend, matrix_rows(kv_b, first + dims.qk_nope_head_dim, dims.v_head_dim)));
  }
}

// Older files say the sizes of a head under the names of the whole.
bool sizes_are_absorbed(const weights::WeightFile& file) {
  return file.metadata().has("deepseek2.attention.key_length_mla");
}

Dimensions read_dimensions(const weights::WeightFile& file) {
  const bool absorbed = sizes_are_absorbed(file);
  Dimensions dims;
  dims.q_lora_rank = read_size_or(file, "attention.q_lora_rank", 0, kHiddenMax, 0);
  dims.kv_lora_rank = read_size(file, "attention.kv_lora_rank", 1, kHeadsMax);
  dims.qk_rope_head_dim = read_size(file, "rope.dimension_count", 2, kHeadsMax);
  const int64_t key =
      read_size(file, absorbed ? "attention.key_length_mla" : "attention.key_length", 1, kHeadsMax);
  dims.v_head_dim =
      read_size(file, absorbed ? "attention.value_length_mla" : "attention.value_length", 1, kHeadsMax);
  dims.qk_nope_head_dim = key - dims.qk_rope_head_dim;
  if (dims.qk_nope_head_dim < 1 || dims.qk_rope_head_dim % 2 != 0)
    throw make_error(
        ErrorCode::invalid_argument,
        "deepseek2.rope.dimension_count must be even and less than a head's key length, got {} and {}",
        dims.qk_rope_head_dim, key);
  return dims;
}

// 1 / sqrt(qk_head_dim), and YaRN's magnitude squared: DeepSeek scales scores rather than cos and sin.
float attention_scale(const weights::WeightFile& file, const Dimensions& dims) {
  const double log_multiplier = read_number_or(file, "rope.scaling.yarn_log_multiplier", 0, 1e6, 0);
  const double factor = read_number_or(file, "rope.scaling.factor", 1e-3, 1e6, 1);
  const double magnitude = 1 + log_multiplier * std::log(std::max(factor, 1.0));
  return static_cast<float>(magnitude * magnitude / std::sqrt(static_cast<double>(dims.qk_head_dim())));
}

// The matrices of a tensor (count, rows, columns), read at once: a checkpoint makes them all from one.
std::vector<std::unique_ptr<Matrix>> load_heads(const weights::WeightFile& file, Backend& backend,
                                                const std::string& name, const std::vector<int64_t>& shape) {
  const weights::TensorEntry* tensor = file.find(name);
  std::vector<WeightView> views;
  if (tensor == nullptr || tensor->shape != shape) {
    views = file.matrices(name, shape[0], shape[1], shape[2]);  // says what is wrong
  } else {
    const weights::TensorData all = file.read(*tensor);
    for (int64_t i = 0; i < shape[0]; ++i)
      views.push_back({.data = all.data + i * (tensor->bytes / shape[0]),
                       .dtype = tensor->dtype,
                       .rows = shape[1],
                       .columns = shape[2],
                       .owner = all.owner});
  }
  std::vector<std::unique_ptr<Matrix>> heads;
  for (const WeightView& view : views) heads.push_back(load(backend, view));
  return heads;
}

void DeepSeek2::load_attention(const weights::WeightFile& file, Backend& backend, int64_t index,
                               Layer& layer) const {
  const auto name = [&](std::string_view part) { return layer_name(index, part); };
  const auto projection = [&](std::string_view part, int64_t rows, int64_t columns) {
    return load_linear(file, backend, name(part), rows, columns, Bias::none);
  };
  const int64_t heads = config_.num_attention_heads, hidden = config_.hidden_size;
  const int64_t q_rows = heads * dims_.qk_head_dim();
  if (dims_.q_lora_rank > 0) {
    layer.q_a = projection("attn_q_a", dims_.q_lora_rank, hidden);
    layer.q_a_norm = file.vector(name("attn_q_a_norm.weight"), dims_.q_lora_rank);
    layer.q = projection("attn_q_b", q_rows, dims_.q_lora_rank);
  } else {
    layer.q = projection("attn_q", q_rows, hidden);
  }
  const WeightView kv_a = file.matrix(name("attn_kv_a_mqa.weight"), dims_.key_dim(), hidden);  // [c | k_pe]
  const WeightView turned[] = {matrix_rows(kv_a, dims_.kv_lora_rank, dims_.qk_rope_head_dim),
                               matrix_rows(kv_a, 0, dims_.kv_lora_rank)};
  layer.kv_a = backend.load_matrix(turned);
  layer.kv_a_norm = file.vector(name("attn_kv_a_norm.weight"), dims_.kv_lora_rank);
  if (file.find(name("attn_kv_b.weight"))) {
    load_kv_b(file, backend, name("attn_kv_b.weight"), heads, dims_, layer);
  } else {
    layer.k_b = load_heads(file, backend, name("attn_k_b.weight"),
                           {heads, dims_.kv_lora_rank, dims_.qk_nope_head_dim});
    layer.v_b =
        load_heads(file, backend, name("attn_v_b.weight"), {heads, dims_.v_head_dim, dims_.kv_lora_rank});
  }
  layer.output = projection("attn_output", hidden, heads * dims_.v_head_dim);
}

DeepSeek2::DeepSeek2(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_deepseek2_config(file);
  context_ = context;
  dims_ = read_dimensions(file);
  if (read_size_or(file, "expert_count", 0, limits::kExperts, 0) > 0)
    moe_ = read_moe_config(file, config_.hidden_size, {.weights_min = 1e-20f});
  attention_ = {.num_attention_heads = config_.num_attention_heads,
                .num_key_value_heads = 1,
                .head_dim = dims_.key_dim(),
                .scale = attention_scale(file, dims_),
                .value_dim = dims_.kv_lora_rank};
  rope_ = std::make_unique<Rope>(context_, dims_.qk_rope_head_dim, config_.rope_theta,
                                 compute::RopePairs::adjacent, read_rope_scaling(file, config_, context_));
  embeddings_ = load_embeddings(file, backend, config_);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    Layer layer;
    layer.attention_norm = file.vector(layer_name(i, "attn_norm.weight"), config_.hidden_size);
    load_attention(file, backend, i, layer);
    layer.feed_forward = load_feed_forward(file, backend, i, config_, moe_);
    layers_.push_back(std::move(layer));
  }
  weight_bytes_ = token_weight_bytes(file, moe_);
}

// (rows, heads * qk_head_dim), of a head [nope | pe].
Tensor DeepSeek2::queries(Backend& backend, const Layer& layer, const Activation& x) const {
  if (!layer.q_a.weight) return linear(backend, x, layer.q);
  const Tensor q_a = linear(backend, x, layer.q_a);
  return linear(backend, backend.rms_norm(q_a, layer.q_a_norm, kLatentNormEps), layer.q);
}

// The rows that attention reads: heads of [q_pe | q'], one key [k_pe | c], one value c.
Tensor DeepSeek2::latent_qkv(Backend& backend, const Layer& layer, const Activation& x) const {
  const int64_t heads = config_.num_attention_heads, key = dims_.key_dim(), rope = dims_.qk_rope_head_dim,
                nope = dims_.qk_nope_head_dim, latent = dims_.kv_lora_rank;
  const Tensor q = queries(backend, layer, x);
  Tensor qkv = backend.zeros(x.rows, (heads + 1) * key + latent);
  for (int64_t head = 0; head < heads; ++head) {
    const compute::ScratchScope scope(backend);
    const Tensor q_head = columns(q, head * (nope + rope), nope + rope);
    backend.add(columns(qkv, head * key, rope), columns(q_head, nope, rope));
    backend.matmul_into(columns(qkv, head * key + rope, latent), backend.activation(columns(q_head, 0, nope)),
                        *layer.k_b[head]);
  }
  const Tensor k = columns(qkv, heads * key, key), c = columns(k, rope, latent);
  backend.matmul_into(k, x, *layer.kv_a);
  backend.rms_normalize(c, layer.kv_a_norm, kLatentNormEps);
  backend.add(columns(qkv, (heads + 1) * key, latent), c);
  return qkv;
}

// x += attention(x)
void DeepSeek2::add_attention(Backend& backend, const Layer& layer, int64_t index, Tensor& x,
                              const Batch& batch, KvCache& cache) const {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  Tensor qkv = latent_qkv(backend, layer, backend.rms_norm(x, layer.attention_norm, eps));
  backend.rope_and_store(qkv, rope_->table(), attention_, batch, cache, index);
  Tensor* const tensors[] = {&qkv, &x};
  const bool last = index + 1 == config_.num_hidden_layers;
  const Tensor latent =
      backend.attention_values(qkv, attention_, last ? backend.narrow(batch, tensors) : batch, cache, index);
  const int64_t heads = config_.num_attention_heads, value = dims_.v_head_dim;
  const Tensor values = backend.zeros(x.rows, heads * value);
  for (int64_t head = 0; head < heads; ++head) {
    const compute::ScratchScope scope(backend);
    const Activation sum = backend.activation(columns(latent, head * dims_.kv_lora_rank, dims_.kv_lora_rank));
    backend.matmul_into(columns(values, head * value, value), sum, *layer.v_b[head]);
  }
  linear_add(backend, x, backend.activation(values), layer.output);
}

Tensor DeepSeek2::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  backend.begin_step(batch);
  Tensor x = backend.embed(*embeddings_.input, batch.tokens);  // (rows, hidden_size)
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const compute::ScratchScope scope(backend);
    add_attention(backend, layers_[i], i, x, batch, cache);
    add_feed_forward(backend, layers_[i].feed_forward, x, eps);
  }
  if (batch.output_rows.empty()) return {};
  return logits(backend, embeddings_, x, batch, eps);
}

int64_t DeepSeek2::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const int64_t heads = config_.num_attention_heads;
  namespace scratch = compute::scratch;
  const int64_t attention = 2 * scratch::result(rows, dims_.q_lora_rank) +
                            scratch::result(rows, heads * dims_.qk_head_dim()) +
                            scratch::result(rows, (heads + 1) * dims_.key_dim() + dims_.kv_lora_rank) +
                            scratch::result(rows, heads * dims_.kv_lora_rank) +
                            2 * scratch::result(rows, heads * dims_.v_head_dim) +
                            scratch::result(rows, std::max(dims_.qk_nope_head_dim, dims_.kv_lora_rank));
  return decoder_scratch_bytes(config_, rows, output_rows) + attention + moe_scratch_bytes(moe_, rows);
}

compute::KvCacheShape DeepSeek2::kv_cache_shape(int64_t blocks, int64_t) const {
  const compute::KvLayer layer{
      .num_key_value_heads = 1, .key_dim = dims_.key_dim(), .value_dim = dims_.kv_lora_rank};
  return {.layers = std::vector<compute::KvLayer>(static_cast<size_t>(config_.num_hidden_layers), layer),
          .blocks = blocks};
}

}  // namespace

// Keys: llama.cpp's conversion of DeepseekV2ForCausalLM and DeepseekV3ForCausalLM, since and before it split kv_b.
ModelConfig read_deepseek2_config(const weights::WeightFile& file) {
  return read_common_config(file, {.value_length = true});
}

std::unique_ptr<Model> load_deepseek2(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<DeepSeek2>(file, backend, context);
}

}  // namespace neutrino::models
