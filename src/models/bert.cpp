// bert: BERT and its relatives as encoders (Devlin et al. 2019), MiniLM and BGE among them.
//
//   x = layer_norm(token + position + segment)
//   for each layer:  x = layer_norm(x + attention(x));  x = layer_norm(x + down(gelu(up(x))))
//
// Every product has a bias, attention looks both ways, positions are a learned table. The hidden states are the output; with
// pooling `rank` a classification head follows the first row: score = output(tanh(dense(x))).

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/limits.h"
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

struct Linear {
  std::unique_ptr<Matrix> weight;  // (out, in)
  std::vector<float> bias;         // (out)
};

struct LayerNorm {
  std::vector<float> weight, bias;  // (hidden_size)
};

struct Layer {
  Linear qkv, output, up, down;
  LayerNorm attention_norm, output_norm;
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
  compute::AttentionShape attention_;
  int64_t weight_bytes_ = 0;
};

Linear load_linear(const weights::WeightFile& file, Backend& backend, const std::string& name, int64_t rows,
                   int64_t columns) {
  const compute::WeightView view = file.matrix(name + ".weight", rows, columns);
  return {backend.load_matrix({&view, 1}), file.vector(name + ".bias", rows)};
}

LayerNorm load_norm(const weights::WeightFile& file, const std::string& name, int64_t size) {
  return {file.vector(name + ".weight", size), file.vector(name + ".bias", size)};
}

std::unique_ptr<Matrix> load_table(const weights::WeightFile& file, Backend& backend, std::string_view name,
                                   int64_t rows, int64_t columns) {
  return backend.load_embedding(file.matrix(name, rows, columns));
}

Bert::Bert(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_bert_config(file);
  context_ = context;
  const int64_t hidden = config_.hidden_size;
  attention_ = {.num_attention_heads = config_.num_attention_heads,
                .num_key_value_heads = config_.num_attention_heads,
                .head_dim = config_.head_dim,
                .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config_.head_dim))),
                .causal = false};
  tokens_ = load_table(file, backend, "token_embd.weight", config_.vocab_size, hidden);
  positions_ = load_table(file, backend, "position_embd.weight", config_.max_position_embeddings, hidden);
  const int64_t segments = leading_size(file, "token_types.weight");
  segments_ = load_table(file, backend, "token_types.weight", segments, hidden);
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
  const auto name = [&](std::string_view part) { return fmt::format("blk.{}.{}", index, part); };
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  compute::WeightView qkv[3];
  Layer layer;
  for (size_t i = 0; i < 3; ++i) {
    const char* const part[] = {"attn_q", "attn_k", "attn_v"};
    qkv[i] = file.matrix(name(part[i]) + ".weight", hidden, hidden);
    const auto bias = file.vector(name(part[i]) + ".bias", hidden);
    layer.qkv.bias.insert(layer.qkv.bias.end(), bias.begin(), bias.end());
  }
  layer.qkv.weight = backend.load_matrix(qkv);
  layer.output = load_linear(file, backend, name("attn_output"), hidden, hidden);
  layer.attention_norm = load_norm(file, name("attn_output_norm"), hidden);
  layer.up = load_linear(file, backend, name("ffn_up"), intermediate, hidden);
  layer.down = load_linear(file, backend, name("ffn_down"), hidden, intermediate);
  layer.output_norm = load_norm(file, name("layer_output_norm"), hidden);
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
  backend.begin_step();
  Tensor x = embed(backend, batch);  // (rows, hidden_size)
  backend.layer_normalize(x, embedding_norm_.weight, embedding_norm_.bias, eps);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    Tensor qkv = backend.matmul(backend.activation(x), *layer.qkv.weight);
    backend.add_bias(qkv, layer.qkv.bias);
    backend.rope_and_store(qkv, {}, attention_, batch, cache, static_cast<int64_t>(i));
    backend.matmul_add(x, backend.attention(qkv, attention_, batch, cache, static_cast<int64_t>(i)),
                       *layer.output.weight);
    backend.add_bias(x, layer.output.bias);
    backend.layer_normalize(x, layer.attention_norm.weight, layer.attention_norm.bias, eps);
    const Tensor up = backend.matmul(backend.activation(x), *layer.up.weight);
    backend.add_bias(up, layer.up.bias);
    backend.apply(up, compute::Function::gelu_erf);
    backend.matmul_add(x, backend.activation(up), *layer.down.weight);
    backend.add_bias(x, layer.down.bias);
    backend.layer_normalize(x, layer.output_norm.weight, layer.output_norm.bias, eps);
  }
  return batch.output_rows.empty() ? Tensor{} : backend.select_rows(x, batch.output_rows);
}

Tensor Bert::finish(Backend& backend, const Tensor& pooled) const {
  if (config_.pooling != Pooling::rank) return pooled;
  Tensor x = pooled;
  if (head_dense_.weight) {
    x = backend.matmul(backend.activation(x), *head_dense_.weight);
    backend.add_bias(x, head_dense_.bias);
    backend.apply(x, compute::Function::tanh);
  }
  const Tensor scores = backend.matmul(backend.activation(x), *head_output_.weight);
  backend.add_bias(scores, head_output_.bias);
  return scores;
}

int64_t Bert::scratch_bytes(int64_t rows, int64_t output_rows) const {
  const auto result = [](int64_t n, int64_t columns) { return n * (columns * 5 + 256) + 64; };
  const int64_t hidden = config_.hidden_size;
  return result(rows, hidden) * 6 + result(rows, 3 * hidden) + result(rows, config_.intermediate_size) * 2 +
         result(output_rows, hidden) * 6;
}

}  // namespace

// Keys: llama.cpp's conversion of BertModel.
ModelConfig read_bert_config(const weights::WeightFile& file) {
  constexpr int64_t kSizeMax = 1 << 20;
  ModelConfig config;
  config.architecture = "bert";
  config.hidden_size = read_size(file, "embedding_length", 1, kSizeMax);
  config.intermediate_size = read_size(file, "feed_forward_length", 1, kSizeMax);
  config.num_hidden_layers = read_size(file, "block_count", 1, limits::kLayers);
  config.num_attention_heads = read_size(file, "attention.head_count", 1, 1 << 12);
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
  return config;
}

std::unique_ptr<Model> load_bert(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Bert>(file, backend, context);
}

}  // namespace neutrino::models
