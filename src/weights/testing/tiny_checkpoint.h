// A whole checkpoint of a few kilobytes: config.json and the tensors of a tiny Llama, random and harmless.
#pragma once

#include <string>
#include <vector>

#include "weights/testing/safetensors_writer.h"
#include "weights/weight_file.h"

namespace neutrino::weights::testing {

struct TinyCheckpoint {
  int64_t hidden_size = 16, intermediate_size = 24, num_hidden_layers = 2;
  int64_t num_attention_heads = 4, num_key_value_heads = 2, vocab_size = 32;
  std::string dtype = "F32";
  bool tie_word_embeddings = true, attention_bias = false;
  uint64_t seed = 1;
};

inline json::object llama_config(const TinyCheckpoint& o) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", o.hidden_size},
          {"intermediate_size", o.intermediate_size},
          {"num_hidden_layers", o.num_hidden_layers},
          {"num_attention_heads", o.num_attention_heads},
          {"num_key_value_heads", o.num_key_value_heads},
          {"vocab_size", o.vocab_size},
          {"max_position_embeddings", 256},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"tie_word_embeddings", o.tie_word_embeddings},
          {"attention_bias", o.attention_bias}};
}

inline StImage llama_tensors(const TinyCheckpoint& o) {
  Random random(o.seed);
  StImage image;
  const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
    image.tensors.push_back(random_tensor(random, name, o.dtype, std::move(shape)));
  };
  const int64_t kv = o.hidden_size / o.num_attention_heads * o.num_key_value_heads;
  add("model.embed_tokens.weight", {o.vocab_size, o.hidden_size});
  for (int64_t i = 0; i < o.num_hidden_layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {o.hidden_size});
    for (const auto& [name, rows] :
         {std::pair{"q", o.hidden_size}, {"k", kv}, {"v", kv}, {"o", o.hidden_size}}) {
      add(layer + "self_attn." + name + "_proj.weight", {rows, o.hidden_size});
      if (o.attention_bias) add(layer + "self_attn." + name + "_proj.bias", {rows});
    }
    add(layer + "post_attention_layernorm.weight", {o.hidden_size});
    add(layer + "mlp.gate_proj.weight", {o.intermediate_size, o.hidden_size});
    add(layer + "mlp.up_proj.weight", {o.intermediate_size, o.hidden_size});
    add(layer + "mlp.down_proj.weight", {o.hidden_size, o.intermediate_size});
  }
  add("model.norm.weight", {o.hidden_size});
  if (!o.tie_word_embeddings) add("lm_head.weight", {o.vocab_size, o.hidden_size});
  return image;
}

// A tensor's values in float32, as a backend sees them.
inline std::vector<float> values_of(const WeightFile& file, const TensorEntry& tensor) {
  const TensorData data = file.read(tensor);
  int64_t rows = 1;
  for (size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= tensor.shape[i];
  const int64_t columns = tensor.shape.back(), row_bytes = compute::row_bytes(tensor.dtype, columns).value();
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    compute::dequantize_row(tensor.dtype, data.data + r * row_bytes, columns, values.data() + r * columns);
  return values;
}

inline std::vector<float> values_of(const WeightFile& file, std::string_view name) {
  const TensorEntry* tensor = file.find(name);
  return tensor ? values_of(file, *tensor) : std::vector<float>();
}

}  // namespace neutrino::weights::testing
