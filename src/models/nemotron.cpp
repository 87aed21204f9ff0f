// nemotron: Nemotron-4 and Minitron (Parmar et al. 2024, "Nemotron-4 15B").
//
//   for each layer:  x += attention(layer_norm(x));  x += down(relu(up(layer_norm(x)))^2)
//   logits = head(layer_norm(x))
//
// LayerNorm with a bias, whose weights the file stores one higher than the authors do; only a part of each head rotates; the
// MLP has no gate.

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

struct LayerNorm {
  std::vector<float> weight, bias;  // (hidden_size)
};

struct Layer {
  LayerNorm attention_norm;
  Attention attention;
  LayerNorm mlp_norm;
  Linear up, down;  // (intermediate_size, hidden_size) and back
};

class Nemotron final : public Model {
 public:
  Nemotron(const weights::WeightFile& file, Backend& backend, int64_t context);
  Tensor forward(Backend& backend, const Batch& batch, KvCache& cache) const override;
  int64_t scratch_bytes(int64_t rows, int64_t output_rows) const override {
    return decoder_scratch_bytes(config_, rows, output_rows);
  }
  int64_t weight_bytes() const override { return weight_bytes_; }

 private:
  LayerNorm load_norm(const weights::WeightFile& file, const std::string& name) const;
  Activation normed(Backend& backend, const Tensor& x, const LayerNorm& norm) const {
    return backend.layer_norm(x, norm.weight, norm.bias, eps_);
  }

  std::unique_ptr<Matrix> embedding_, head_;  // (vocab_size, hidden_size); no head_: the embedding serves
  std::vector<Layer> layers_;
  LayerNorm final_norm_;
  std::unique_ptr<Rope> rope_;
  float eps_ = 0;
  int64_t weight_bytes_ = 0;
};

Nemotron::Nemotron(const weights::WeightFile& file, Backend& backend, int64_t context) {
  config_ = read_nemotron_config(file);
  context_ = context;
  eps_ = static_cast<float>(config_.rms_norm_eps);
  const int64_t hidden = config_.hidden_size, intermediate = config_.intermediate_size;
  rope_ = std::make_unique<Rope>(context_, config_.rotary_dim, config_.rope_theta, compute::RopePairs::halves,
                                 read_rope_scaling(file, config_, context_));
  Embeddings embeddings = load_embeddings(file, backend, config_);
  embedding_ = std::move(embeddings.input), head_ = std::move(embeddings.output);
  final_norm_ = load_norm(file, "output_norm");
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    Layer layer;
    layer.attention_norm = load_norm(file, layer_name(i, "attn_norm"));
    layer.attention = load_attention(file, backend, i, hidden, attention_shape(config_), rope_.get(), eps_);
    layer.mlp_norm = load_norm(file, layer_name(i, "ffn_norm"));
    layer.up = load_linear(file, backend, layer_name(i, "ffn_up"), intermediate, hidden);
    layer.down = load_linear(file, backend, layer_name(i, "ffn_down"), hidden, intermediate);
    layers_.push_back(std::move(layer));
  }
  weight_bytes_ = token_weight_bytes(file);
}

LayerNorm Nemotron::load_norm(const weights::WeightFile& file, const std::string& name) const {
  return {file.vector(name + ".weight", config_.hidden_size),
          load_bias(file, name, config_.hidden_size, Bias::required)};
}

Tensor Nemotron::forward(Backend& backend, const Batch& batch, KvCache& cache) const {
  backend.begin_step(batch);
  Tensor x = backend.embed(*embedding_, batch.tokens);  // (rows, hidden_size)
  for (int64_t i = 0; i < config_.num_hidden_layers; ++i) {
    const Layer& layer = layers_[i];
    const compute::ScratchScope scope(backend);
    const Activation input = normed(backend, x, layer.attention_norm);
    Tensor* const last = i + 1 == config_.num_hidden_layers ? &x : nullptr;
    linear_add(backend, x, attend(backend, layer.attention, input, batch, cache, i, last),
               layer.attention.output);
    const Tensor up = linear(backend, normed(backend, x, layer.mlp_norm), layer.up);
    backend.apply(up, compute::Function::relu_squared);
    linear_add(backend, x, backend.activation(up), layer.down);
  }
  if (batch.output_rows.empty()) return {};
  const Activation last = normed(backend, wanted_rows(backend, x, batch), final_norm_);
  return backend.matmul(last, head_ ? *head_ : *embedding_);
}

}  // namespace

// Keys: llama.cpp's conversion of NemotronForCausalLM.
ModelConfig read_nemotron_config(const weights::WeightFile& file) {
  return read_common_config(file, {.epsilon = "attention.layer_norm_epsilon"});
}

std::unique_ptr<Model> load_nemotron(const weights::WeightFile& file, Backend& backend, int64_t context) {
  return std::make_unique<Nemotron>(file, backend, context);
}

}  // namespace neutrino::models
