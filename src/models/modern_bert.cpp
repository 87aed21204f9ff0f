// modern-bert: ModernBERT (Warner et al. 2024), an encoder with rotary positions, gated MLPs and mostly local attention.
//
//   x = layer_norm(token)
//   for each layer:  x += attention(layer_norm(x));  x += down(gelu(first) * second), [first | second] = up(layer_norm(x))
//   hidden = layer_norm(x)
//
// The first layer's attention reads x itself. Every third layer looks at the whole text, the others at a window on both
// sides. With pooling `rank`: score = output(layer_norm(gelu(dense(pooled)))).

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/limits.h"
#include "models/architectures.h"
#include "models/layers.h"
#include "models/pooling.h"

namespace neutrino::models {

using compute::Activation;
using compute::Backend;
using compute::Batch;
using compute::Function;
using compute::KvCache;
using compute::Matrix;
using compute::Tensor;

namespace {

constexpr int64_t kGlobalEvery = 3;

struct Layer {
  std::vector<float> attention_norm;  // (hidden_size); empty in the first layer
  std::unique_ptr<Matrix> qkv;        // (3 hidden_size, hidden_size)
  std::unique_ptr<Matrix> output;     // (hidden_size, hidden_size)
  std::vector<float> mlp_norm;        // (hidden_size)
  std::unique_ptr<Matrix> gate_up;    // 2 x (intermediate_size, hidden_size)
  std::unique_ptr<Matrix> down;       // (hidden_size, intermediate_size)
  bool global = false;
};

class ModernBert final : public Model {
 public:
  ModernBert(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  Tensor finish(Backend& backend, const Tensor& pooled) const override;
  int64_t output_columns() const override { return config_.hidden_size; }
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t index) const;
  void load_head(const weights::WeightFile& file, Backend& backend);

  std::unique_ptr<Matrix> embedding_;  // (vocab_size, hidden_size)
  std::vector<float> embedding_norm_, final_norm_;
  std::vector<Layer> layers_;
  std::unique_ptr<Rope> global_rope_, local_rope_;
  compute::AttentionShape global_, local_;
  Function function_ = Function::gelu_erf;
  std::unique_ptr<Matrix> head_dense_, head_output_;  // with pooling rank
  std::vector<float> head_norm_, head_bias_;
  int64_t weight_bytes_ = 0;
};

std::unique_ptr<Matrix> load_one(const weights::WeightFile& file, Backend& backend, const std::string& name,
                                 int64_t rows, int64_t columns) {
  const compute::WeightView view = file.matrix(name, rows, columns);
  return backend.load_matrix({&view, 1});
}

Function read_function(const weights::WeightFile& file) {
  const auto name = file.metadata().text("modern-bert.hidden_activation");
  if (!name || *name == "gelu") return Function::gelu_erf;
  if (*name == "silu") return Function::silu;
  throw make_error(ErrorCode::unimplemented,
                   "modern-bert.hidden_activation must be gelu or silu, got \"{:.64}\"", *name);
}

ModernBert::ModernBert(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_modern_bert_config(file);
  context_ = context;
  const int64_t hidden = config_.hidden_size;
  global_ = {.num_attention_heads = config_.num_attention_heads,
             .num_key_value_heads = config_.num_attention_heads,
             .head_dim = config_.head_dim,
             .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
             .causal = false};
  local_ = global_;
  // local_attention counts both sides: half of it before, half of it behind.
  local_.window = read_size_or(file, "attention.sliding_window", 2, limits::kContextTokens, 128) / 2 + 1;
  const double local_theta = read_number_or(file, "rope.freq_base_swa", 1, 1e12, 10000);
  const auto rope = [&](double theta) {
    return std::make_unique<Rope>(context_, config_.head_dim, theta, std::span<const float>{},
                                  compute::RopePairs::halves);
  };
  global_rope_ = rope(config_.rope_theta);
  local_rope_ = rope(local_theta);
  function_ = read_function(file);
  embedding_ = backend.load_embedding(file.matrix("token_embd.weight", config_.vocab_size, hidden));
  embedding_norm_ = file.vector("token_embd_norm.weight", hidden);
  final_norm_ = file.vector("output_norm.weight", hidden);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) layers_.push_back(load_layer(file, backend, i));
  if (config_.pooling == Pooling::rank) load_head(file, backend);
  for (const weights::TensorEntry& tensor : file.tensors())
    if (tensor.name != "token_embd.weight") weight_bytes_ += tensor.bytes;
}

Layer ModernBert::load_layer(const weights::WeightFile& file, Backend& backend, int64_t index) const {
  const auto name = [&](std::string_view part) { return fmt::format("blk.{}.{}.weight", index, part); };
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  const int64_t period = read_size_or(file, "attention.sliding_window_pattern", 1, 1 << 10, kGlobalEvery);
  Layer layer;
  layer.global = index % period == 0;
  if (index > 0) layer.attention_norm = file.vector(name("attn_norm"), hidden);
  layer.qkv = load_one(file, backend, name("attn_qkv"), 3 * hidden, hidden);
  layer.output = load_one(file, backend, name("attn_output"), hidden, hidden);
  layer.mlp_norm = file.vector(name("ffn_norm"), hidden);
  compute::WeightView first = file.matrix(name("ffn_up"), 2 * intermediate, hidden), second = first;
  first.rows = second.rows = intermediate;
  second.data += *compute::matrix_bytes(second.dtype, intermediate, hidden);
  layer.gate_up = backend.load_gate_up(first, second);
  layer.down = load_one(file, backend, name("ffn_down"), hidden, intermediate);
  return layer;
}

void ModernBert::load_head(const weights::WeightFile& file, Backend& backend) {
  const int64_t hidden = config_.hidden_size, scores = leading_size(file, "cls.output.weight");
  head_dense_ = load_one(file, backend, "cls.weight", hidden, hidden);
  head_norm_ = file.vector("cls.norm.weight", hidden);
  head_output_ = load_one(file, backend, "cls.output.weight", scores, hidden);
  head_bias_ =
      file.find("cls.output.bias") ? file.vector("cls.output.bias", scores) : std::vector<float>(scores);
}

Tensor ModernBert::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  backend.begin_step();
  Tensor x = backend.embed(*embedding_, batch.tokens);  // (rows, hidden_size)
  backend.layer_normalize(x, embedding_norm_, {}, eps);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const compute::AttentionShape& shape = layer.global ? global_ : local_;
    const Activation normed = layer.attention_norm.empty()
                                  ? backend.activation(x)
                                  : backend.layer_norm(x, layer.attention_norm, {}, eps);
    Tensor qkv = backend.matmul(normed, *layer.qkv);
    backend.rope_and_store(qkv, (layer.global ? global_rope_ : local_rope_)->table(), shape, batch, cache,
                           static_cast<int64_t>(i));
    backend.matmul_add(x, backend.attention(qkv, shape, batch, cache, static_cast<int64_t>(i)),
                       *layer.output);
    const Activation mlp = backend.layer_norm(x, layer.mlp_norm, {}, eps);
    backend.matmul_add(x, backend.gated_matmul(mlp, *layer.gate_up, function_), *layer.down);
  }
  if (batch.output_rows.empty()) return {};
  const Tensor hidden = backend.select_rows(x, batch.output_rows);
  backend.layer_normalize(hidden, final_norm_, {}, eps);
  return hidden;
}

Tensor ModernBert::finish(Backend& backend, const Tensor& pooled) const {
  if (config_.pooling != Pooling::rank) return pooled;
  const Tensor x = backend.matmul(backend.activation(pooled), *head_dense_);
  backend.apply(x, function_);
  const Activation normed = backend.layer_norm(x, head_norm_, {}, static_cast<float>(config_.rms_norm_eps));
  const Tensor scores = backend.matmul(normed, *head_output_);
  backend.add_bias(scores, head_bias_);
  return scores;
}

int64_t ModernBert::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const auto result = [](int64_t n, int64_t columns) { return n * (columns * 5 + 256) + 64; };
  const int64_t hidden = config_.hidden_size;
  return result(rows, hidden) * 4 + result(rows, 3 * hidden) + result(rows, config_.intermediate_size) +
         result(output_rows, hidden) * 4;
}

}  // namespace

// Keys: llama.cpp's conversion of ModernBertModel.
ModelConfig read_modern_bert_config(const weights::WeightFile& file) {
  constexpr int64_t kSizeMax = 1 << 20;
  ModelConfig config;
  config.architecture = "modern-bert";
  config.hidden_size = read_size(file, "embedding_length", 1, kSizeMax);
  config.intermediate_size = read_size(file, "feed_forward_length", 1, kSizeMax);
  config.num_hidden_layers = read_size(file, "block_count", 1, limits::kLayers);
  config.num_attention_heads = read_size(file, "attention.head_count", 1, 1 << 12);
  config.num_key_value_heads = config.num_attention_heads;
  if (config.hidden_size % (2 * config.num_attention_heads) != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "modern-bert.embedding_length must be a multiple of twice head_count, got {} and {}",
                     config.hidden_size, config.num_attention_heads);
  config.head_dim = config.rotary_dim = config.hidden_size / config.num_attention_heads;
  config.max_position_embeddings = read_size(file, "context_length", 1, limits::kContextTokens);
  config.rms_norm_eps = read_number(file, "attention.layer_norm_epsilon", 1e-14, 1);
  config.rope_theta = read_number_or(file, "rope.freq_base", 1, 1e12, 160000);
  config.vocab_size = leading_size(file, "token_embd.weight");
  config.pooling = read_pooling(file, Pooling::mean);
  const auto rows = file.metadata().text("modern-bert.classifier_pooling");
  config.score_rows = rows && *rows == "cls" ? Pooling::cls : Pooling::mean;
  config.bidirectional = true;
  return config;
}

std::unique_ptr<Model> load_modern_bert(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<ModernBert>(file, backend, context);
}

}  // namespace neutrino::models
