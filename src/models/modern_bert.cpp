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
#include "compute/scratch_bytes.h"
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
  Attention attention;
  std::vector<float> mlp_norm;  // (hidden_size)
  GatedMlp mlp;
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
  Function function_ = Function::gelu_erf;
  Linear head_dense_, head_output_;  // with pooling rank
  std::vector<float> head_norm_;
  int64_t weight_bytes_ = 0;
};

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
  const auto rope = [&](double theta) {
    return std::make_unique<Rope>(context_, config_.head_dim, theta, compute::RopePairs::halves);
  };
  global_rope_ = rope(config_.rope_theta);
  local_rope_ = rope(read_number_or(file, "rope.freq_base_swa", 1, 1e12, 10000));
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
  const int64_t hidden = config_.hidden_size;
  const bool global =
      index % read_size_or(file, "attention.sliding_window_pattern", 1, 1 << 10, kGlobalEvery) == 0;
  compute::AttentionShape shape = attention_shape(config_);
  shape.causal = false;
  // The window counts both sides: half of it before, half of it behind.
  const int64_t window = read_size_or(file, "attention.sliding_window", 2, limits::kContextTokens, 128);
  if (!global) shape.window = window / 2 + 1;
  Layer layer;
  if (index > 0) layer.attention_norm = file.vector(layer_name(index, "attn_norm.weight"), hidden);
  layer.attention =
      load_attention(file, backend, index, hidden, shape, global ? global_rope_.get() : local_rope_.get(), 0,
                     {.bias = Bias::none, .output_bias = Bias::none});
  layer.mlp_norm = file.vector(layer_name(index, "ffn_norm.weight"), hidden);
  layer.mlp = load_gated_mlp(file, backend, index, hidden, config_.intermediate_size, function_);
  return layer;
}

void ModernBert::load_head(const weights::WeightFile& file, Backend& backend) {
  const int64_t hidden = config_.hidden_size;
  head_dense_ = load_linear(file, backend, "cls", hidden, hidden, Bias::none);
  head_norm_ = file.vector("cls.norm.weight", hidden);
  head_output_ = load_linear(file, backend, "cls.output", leading_size(file, "cls.output.weight"), hidden);
}

Tensor ModernBert::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  backend.begin_step(batch);
  Tensor x = backend.embed(*embedding_, batch.tokens);  // (rows, hidden_size)
  backend.layer_normalize(x, embedding_norm_, {}, eps);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const Activation normed = layer.attention_norm.empty()
                                  ? backend.activation(x)
                                  : backend.layer_norm(x, layer.attention_norm, {}, eps);
    linear_add(backend, x, attend(backend, layer.attention, normed, batch, cache, static_cast<int64_t>(i)),
               layer.attention.output);
    const Activation mlp = backend.layer_norm(x, layer.mlp_norm, {}, eps);
    linear_add(backend, x, gated(backend, layer.mlp, mlp), layer.mlp.down);
  }
  if (batch.output_rows.empty()) return {};
  const Tensor hidden = backend.select_rows(x, batch.output_rows);
  backend.layer_normalize(hidden, final_norm_, {}, eps);
  return hidden;
}

Tensor ModernBert::finish(Backend& backend, const Tensor& pooled) const {
  if (config_.pooling != Pooling::rank) return pooled;
  const Tensor x = linear(backend, backend.activation(pooled), head_dense_);
  backend.apply(x, function_);
  const float eps = static_cast<float>(config_.rms_norm_eps);
  return linear(backend, backend.layer_norm(x, head_norm_, {}, eps), head_output_);
}

int64_t ModernBert::scratch_bytes(int64_t rows, int64_t output_rows) const {
  using compute::scratch::result;
  const int64_t hidden = config_.hidden_size;
  return result(rows, hidden) * 4 + result(rows, 3 * hidden) + result(rows, config_.intermediate_size) +
         result(output_rows, hidden) * 4;
}

}  // namespace

// Keys: llama.cpp's conversion of ModernBertModel.
ModelConfig read_modern_bert_config(const weights::WeightFile& file) {
  ModelConfig config;
  config.architecture = "modern-bert";
  config.hidden_size = read_size(file, "embedding_length", 1, kHiddenMax);
  config.intermediate_size = read_size(file, "feed_forward_length", 1, kHiddenMax);
  config.num_hidden_layers = read_size(file, "block_count", 1, limits::kLayers);
  config.num_attention_heads = read_size(file, "attention.head_count", 1, kHeadsMax);
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
