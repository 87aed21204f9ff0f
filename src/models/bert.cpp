// bert: BERT and its relatives as encoders (Devlin et al. 2019), MiniLM and BGE among them.
//
//   x = layer_norm(token + position + segment)
//   for each layer:  x = layer_norm(x + attention(x));  x = layer_norm(x + down(gelu(up(x))))
//
// Every product has a bias, attention looks both ways, positions are a learned table. The hidden states are the output; with
// pooling `rank` a classification head follows the first row: score = output(tanh(dense(x))).

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
using compute::Matrix;
using compute::Tensor;

namespace {

struct LayerNorm {
  std::vector<float> weight, bias;  // (hidden_size)
};

struct Layer {
  Attention attention;
  LayerNorm attention_norm;
  Linear up, down;
  LayerNorm output_norm;
};

class Bert final : public Model {
 public:
  Bert(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  Tensor finish(Backend& backend, const Tensor& pooled) const override;
  int64_t output_columns() const override { return config_.hidden_size; }
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override;
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  Layer load_layer(const weights::WeightFile& file, Backend& backend, int64_t index) const;
  Tensor embed(Backend& backend, const Batch& batch) const;

  std::unique_ptr<Matrix> tokens_;     // (vocab_size, hidden_size)
  std::unique_ptr<Matrix> positions_;  // (max_position_embeddings, hidden_size)
  std::unique_ptr<Matrix> segments_;   // (segments, hidden_size)
  LayerNorm embedding_norm_;
  std::vector<Layer> layers_;
  Linear head_dense_, head_output_;  // with pooling rank
  int64_t weight_bytes_ = 0;
};

LayerNorm load_norm(const weights::WeightFile& file, const std::string& name, int64_t size) {
  return {file.vector(name + ".weight", size), file.vector(name + ".bias", size)};
}

Bert::Bert(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_bert_config(file);
  context_ = context;
  const int64_t hidden = config_.hidden_size;
  const auto table = [&](std::string_view name, int64_t rows) {
    return backend.load_embedding(file.matrix(name, rows, hidden));
  };
  tokens_ = table("token_embd.weight", config_.vocab_size);
  positions_ = table("position_embd.weight", config_.max_position_embeddings);
  segments_ = table("token_types.weight", config_.segments);
  embedding_norm_ = load_norm(file, "token_embd_norm", hidden);
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) layers_.push_back(load_layer(file, backend, i));
  if (config_.pooling == Pooling::rank) {
    if (file.find("cls.weight")) head_dense_ = load_linear(file, backend, "cls", hidden, hidden);
    head_output_ = load_linear(file, backend, "cls.output", leading_size(file, "cls.output.weight"), hidden);
  }
  for (const weights::TensorEntry& tensor : file.tensors())
    if (tensor.name.starts_with("blk.")) weight_bytes_ += tensor.bytes;
}

Layer Bert::load_layer(const weights::WeightFile& file, Backend& backend, int64_t index) const {
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  compute::AttentionShape shape = attention_shape(config_);
  shape.causal = false;
  Layer layer;
  layer.attention = load_attention(file, backend, index, hidden, shape, nullptr, 0,
                                   {.bias = Bias::required, .output_bias = Bias::required});
  layer.attention_norm = load_norm(file, layer_name(index, "attn_output_norm"), hidden);
  layer.up = load_linear(file, backend, layer_name(index, "ffn_up"), intermediate, hidden, Bias::required);
  layer.down =
      load_linear(file, backend, layer_name(index, "ffn_down"), hidden, intermediate, Bias::required);
  layer.output_norm = load_norm(file, layer_name(index, "layer_output_norm"), hidden);
  return layer;
}

Tensor Bert::embed(Backend& backend, const Batch& batch) const {
  Tensor x = backend.embed(*tokens_, batch.tokens);
  const compute::ScratchScope scope(backend);
  backend.add(x, backend.embed(*positions_, batch.positions));
  if (batch.segments.empty()) {
    const int32_t first = 0;
    backend.add_bias(x, {backend.embed(*segments_, {&first, 1}).data, static_cast<size_t>(x.columns)});
  } else {
    backend.add(x, backend.embed(*segments_, batch.segments));
  }
  return x;
}

Tensor Bert::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  const float eps = static_cast<float>(config_.rms_norm_eps);
  backend.begin_step(batch);
  Tensor x = embed(backend, batch);  // (rows, hidden_size)
  backend.layer_normalize(x, embedding_norm_.weight, embedding_norm_.bias, eps);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const auto layer_index = static_cast<int64_t>(i);
    linear_add(backend, x, attend(backend, layer.attention, backend.activation(x), batch, cache, layer_index),
               layer.attention.output);
    backend.layer_normalize(x, layer.attention_norm.weight, layer.attention_norm.bias, eps);
    const Tensor up = linear(backend, backend.activation(x), layer.up);
    backend.apply(up, compute::Function::gelu_erf);
    linear_add(backend, x, backend.activation(up), layer.down);
    backend.layer_normalize(x, layer.output_norm.weight, layer.output_norm.bias, eps);
  }
  return batch.output_rows.empty() ? Tensor{} : backend.select_rows(x, batch.output_rows);
}

Tensor Bert::finish(Backend& backend, const Tensor& pooled) const {
  if (config_.pooling != Pooling::rank) return pooled;
  Tensor x = pooled;
  if (head_dense_.weight) {
    x = linear(backend, backend.activation(x), head_dense_);
    backend.apply(x, compute::Function::tanh);
  }
  return linear(backend, backend.activation(x), head_output_);
}

int64_t Bert::scratch_bytes(int64_t rows, int64_t output_rows) const {
  using compute::scratch::result;
  const int64_t hidden = config_.hidden_size;
  return result(rows, hidden) * 6 + result(rows, 3 * hidden) + result(rows, config_.intermediate_size) * 2 +
         result(output_rows, hidden) * 6;
}

}  // namespace

// Keys: llama.cpp's conversion of BertModel.
ModelConfig read_bert_config(const weights::WeightFile& file) {
  ModelConfig config;
  config.architecture = "bert";
  config.hidden_size = read_size(file, "embedding_length", 1, kHiddenMax);
  config.intermediate_size = read_size(file, "feed_forward_length", 1, kHiddenMax);
  config.num_hidden_layers = read_size(file, "block_count", 1, limits::kLayers);
  config.num_attention_heads = read_size(file, "attention.head_count", 1, kHeadsMax);
  config.num_key_value_heads = config.num_attention_heads;
  if (config.hidden_size % config.num_attention_heads != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "bert.embedding_length must be a multiple of head_count, got {} and {}",
                     config.hidden_size, config.num_attention_heads);
  config.head_dim = config.hidden_size / config.num_attention_heads;
  config.max_position_embeddings = read_size(file, "context_length", 1, limits::kContextTokens);
  config.rms_norm_eps = read_number(file, "attention.layer_norm_epsilon", 1e-14, 1);
  config.vocab_size = leading_size(file, "token_embd.weight");
  config.pooling = read_pooling(file, Pooling::mean);
  config.bidirectional = true;
  config.segments = leading_size(file, "token_types.weight");
  return config;
}

std::unique_ptr<Model> load_bert(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Bert>(file, backend, context);
}

}  // namespace neutrino::models
