// llama: Llama 2 and 3, SmolLM2, Mistral and their relatives (Touvron et al. 2023, "LLaMA").
//
//   x = embed(tokens)
//   for each layer:  x += attention(rms_norm(x));  x += down(silu(gate(rms_norm(x))) * up(rms_norm(x)))
//   logits = head(rms_norm(x))
//
// Grouped-query attention with rotary positions. GGUF stores q and k with the rotary pairs side by side (2i, 2i+1), so the
// table's pairs are `adjacent`; rope_freqs.weight carries Llama 3's scaling as divisors of the frequencies.

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/limits.h"
#include "models/architectures.h"
#include "models/layers.h"

namespace neutrino::models {

using compute::Activation;
using compute::Backend;
using compute::Batch;
using compute::KvCache;
using compute::Matrix;
using compute::Tensor;

namespace {

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size)
  std::unique_ptr<Matrix> qkv;        // ((heads + 2 kv heads) * head_dim, hidden_size)
  std::unique_ptr<Matrix> output;     // (hidden_size, heads * head_dim)
  std::vector<float> mlp_norm;        // (hidden_size)
  std::unique_ptr<Matrix> gate_up;    // 2 x (intermediate_size, hidden_size)
  std::unique_ptr<Matrix> down;       // (hidden_size, intermediate_size)
};

class Llama final : public Model {
 public:
  Llama(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t index) const;

  std::unique_ptr<Matrix> embedding_;  // (vocab_size, hidden_size)
  std::unique_ptr<Matrix> head_;       // (vocab_size, hidden_size); null: the embedding serves as head
  std::vector<Layer> layers_;
  std::vector<float> final_norm_;  // (hidden_size)
  std::unique_ptr<Rope> rope_;
  compute::AttentionShape attention_;
  int64_t weight_bytes_ = 0;  // read for one token: all layers and the head
};

Llama::Llama(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_llama_config(file);
  context_ = context;
  attention_ = {.num_attention_heads = config_.num_attention_heads,
                .num_key_value_heads = config_.num_key_value_heads,
                .head_dim = config_.head_dim,
                .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim)))};
  std::vector<float> divisors;
  if (file.find("rope_freqs.weight")) divisors = file.vector("rope_freqs.weight", config_.rotary_dim / 2);
  for (const float divisor : divisors)
    if (!(divisor > 0))
      throw make_error(ErrorCode::invalid_argument, "rope_freqs.weight must be positive, got {}", divisor);
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, divisors,
                                 compute::RopePairs::adjacent);
  const compute::WeightView embedding =
      file.matrix("token_embd.weight", config_.vocab_size, config_.hidden_size);
  embedding_ = backend.load_embedding(embedding);
  if (!config_.tie_word_embeddings) {
    const compute::WeightView head = file.matrix("output.weight", config_.vocab_size, config_.hidden_size);
    head_ = backend.load_matrix({&head, 1});
  }
  final_norm_ = file.vector("output_norm.weight", config_.hidden_size);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) layers_.push_back(load_layer(file, backend, i));
  for (const weights::TensorEntry& tensor : file.tensors())
    if (tensor.name != "token_embd.weight" || config_.tie_word_embeddings) weight_bytes_ += tensor.bytes;
}

Layer Llama::load_layer(const weights::WeightFile& file, Backend& backend, int64_t index) const {
  const auto name = [&](std::string_view part) { return fmt::format("blk.{}.{}.weight", index, part); };
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  const int64_t q_rows = config_.num_attention_heads * config_.head_dim;
  const int64_t kv_rows = config_.num_key_value_heads * config_.head_dim;
  const auto matrix = [&](std::string_view part, int64_t rows, int64_t columns) {
    const compute::WeightView view = file.matrix(name(part), rows, columns);
    return backend.load_matrix({&view, 1});
  };
  const compute::WeightView qkv[] = {file.matrix(name("attn_q"), q_rows, hidden),
                                     file.matrix(name("attn_k"), kv_rows, hidden),
                                     file.matrix(name("attn_v"), kv_rows, hidden)};
  Layer layer;
  layer.attention_norm = file.vector(name("attn_norm"), hidden);
  layer.qkv = backend.load_matrix(qkv);
  layer.output = matrix("attn_output", hidden, q_rows);
  layer.mlp_norm = file.vector(name("ffn_norm"), hidden);
  layer.gate_up = backend.load_gate_up(file.matrix(name("ffn_gate"), intermediate, hidden),
                                       file.matrix(name("ffn_up"), intermediate, hidden));
  layer.down = matrix("ffn_down", hidden, intermediate);
  return layer;
}

Tensor Llama::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  backend.begin_step();
  Tensor x = backend.embed(*embedding_, batch.tokens);  // (rows, hidden_size)
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    Tensor qkv = backend.matmul(backend.rms_norm(x, layer.attention_norm, eps), *layer.qkv);
    backend.rope_and_store(qkv, rope_->table(), attention_, batch, cache, static_cast<int64_t>(i));
    backend.matmul_add(x, backend.attention(qkv, attention_, batch, cache, static_cast<int64_t>(i)),
                       *layer.output);
    backend.matmul_add(x, backend.gated_matmul(backend.rms_norm(x, layer.mlp_norm, eps), *layer.gate_up),
                       *layer.down);
  }
  if (batch.output_rows.empty()) return {};
  const Activation last = backend.rms_norm(backend.select_rows(x, batch.output_rows), final_norm_, eps);
  return backend.matmul(last, head_ ? *head_ : *embedding_);
}

int64_t Llama::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const int64_t heads = config_.num_attention_heads * config_.head_dim;
  const int64_t qkv = heads + 2 * config_.num_key_value_heads * config_.head_dim;
  const auto result = [](int64_t n, int64_t columns) { return n * (columns * 5 + 256) + 64; };
  const int64_t layer = result(rows, config_.hidden_size) * 2 + result(rows, qkv) + result(rows, heads) +
                        result(rows, config_.intermediate_size);
  const int64_t logits =
      result(output_rows, config_.hidden_size) * 2 + result(output_rows, config_.vocab_size);
  return result(rows, config_.hidden_size) + std::max(layer, logits);
}

}  // namespace

// Keys: llama.cpp's conversion of LlamaForCausalLM (spec: ggml's gguf.md).
ModelConfig read_llama_config(const weights::WeightFile& file) {
  constexpr int64_t kSizeMax = 1 << 20;
  ModelConfig config;
  config.architecture = "llama";
  config.hidden_size = read_size(file, "embedding_length", 1, kSizeMax);
  config.intermediate_size = read_size(file, "feed_forward_length", 1, kSizeMax);
  config.num_hidden_layers = read_size(file, "block_count", 1, limits::kLayers);
  config.num_attention_heads = read_size(file, "attention.head_count", 1, 1 << 12);
  config.num_key_value_heads = read_size_or(file, "attention.head_count_kv", 1, config.num_attention_heads,
                                            config.num_attention_heads);
  if (config.num_attention_heads % config.num_key_value_heads != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "llama.attention.head_count must be a multiple of head_count_kv, got {} and {}",
                     config.num_attention_heads, config.num_key_value_heads);
  if (!file.metadata().has("llama.attention.key_length") &&
      config.hidden_size % config.num_attention_heads != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "llama.embedding_length must be a multiple of head_count, got {} and {}",
                     config.hidden_size, config.num_attention_heads);
  config.head_dim =
      read_size_or(file, "attention.key_length", 1, 1 << 12, config.hidden_size / config.num_attention_heads);
  if (read_size_or(file, "attention.value_length", 1, 1 << 12, config.head_dim) != config.head_dim)
    throw make_error(ErrorCode::unimplemented, "llama.attention.value_length must equal key_length ({})",
                     config.head_dim);
  config.rotary_dim = read_size_or(file, "rope.dimension_count", 1, config.head_dim, config.head_dim);
  if (config.head_dim % 2 != 0 || config.rotary_dim % 2 != 0)
    throw make_error(ErrorCode::invalid_argument, "head and rotary dimensions must be even, got {} and {}",
                     config.head_dim, config.rotary_dim);
  config.max_position_embeddings = read_size(file, "context_length", 1, limits::kContextTokens);
  config.rms_norm_eps = read_number(file, "attention.layer_norm_rms_epsilon", 1e-12, 1);
  config.rope_theta = read_number_or(file, "rope.freq_base", 1, 1e12, 10000);
  if (const auto scaling = file.metadata().text("llama.rope.scaling.type"); scaling && *scaling != "none")
    throw make_error(ErrorCode::unimplemented, "llama.rope.scaling.type \"{:.64}\" is not known", *scaling);
  if (read_size_or(file, "expert_count", 0, 1 << 12, 0) != 0)
    throw Error(ErrorCode::unimplemented, "llama with experts (Mixtral) is not supported yet");
  const weights::TensorEntry* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    throw Error(ErrorCode::invalid_argument, "the model file needs a two-dimensional token_embd.weight");
  config.vocab_size = embedding->shape[0];
  config.tie_word_embeddings = file.find("output.weight") == nullptr;
  return config;
}

std::unique_ptr<Model> load_llama(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Llama>(file, backend, context);
}

}  // namespace neutrino::models
