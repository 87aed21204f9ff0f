#include "models/layers.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "compute/scratch_bytes.h"

namespace neutrino::models {

using compute::Activation;
using compute::AttentionShape;
using compute::Backend;
using compute::Tensor;
using compute::WeightView;

std::string layer_name(int64_t layer, std::string_view part) { return fmt::format("blk.{}.{}", layer, part); }

std::vector<float> read_values(const weights::WeightFile& file, const std::string& name, int64_t size) {
  const weights::TensorEntry* tensor = file.find(name);
  if (tensor == nullptr || tensor->shape.empty())
    throw make_error(ErrorCode::invalid_argument, "tensor \"{}\" of {} values is missing", name, size);
  int64_t elements = 1;
  for (const int64_t dimension : tensor->shape) elements *= dimension;
  if (elements != size)
    throw make_error(ErrorCode::invalid_argument, "tensor \"{}\" must have {} values, got {}", name, size,
                     elements);
  const int64_t columns = tensor->shape.back();
  const weights::TensorData bytes = file.read(*tensor);
  const int64_t row_bytes = *compute::matrix_bytes(tensor->dtype, 1, columns);
  std::vector<float> values(static_cast<size_t>(size));
  for (int64_t row = 0; row * columns < size; ++row)
    compute::dequantize_row(tensor->dtype, bytes.data + row * row_bytes, columns,
                            values.data() + row * columns);
  return values;
}

WeightView matrix_rows(const WeightView& matrix, int64_t first, int64_t count) {
  check(first >= 0 && count >= 0 && first + count <= matrix.rows, "rows are taken from within a matrix");
  WeightView view = matrix;
  view.data += *compute::matrix_bytes(matrix.dtype, first, matrix.columns);
  view.rows = count;
  view.first_row += first;
  return view;
}

std::vector<float> load_float_matrix(const weights::WeightFile& file, const std::string& name, int64_t rows,
                                     int64_t columns) {
  const WeightView view = file.matrix(name, rows, columns);
  const int64_t row_bytes = *compute::matrix_bytes(view.dtype, 1, columns);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    compute::dequantize_row(view.dtype, view.data + r * row_bytes, columns, values.data() + r * columns);
  for (float& value : values) value *= view.scale;
  return values;
}

// ---- y = x W^T + b

std::vector<float> load_bias(const weights::WeightFile& file, const std::string& name, int64_t rows,
                             Bias bias) {
  const bool wanted = bias == Bias::required || (bias == Bias::if_present && file.find(name + ".bias"));
  return wanted ? file.vector(name + ".bias", rows) : std::vector<float>{};
}

Linear load_linear(const weights::WeightFile& file, Backend& backend, const std::string& name, int64_t rows,
                   int64_t columns, Bias bias) {
  const WeightView view = file.matrix(name + ".weight", rows, columns);
  return {backend.load_matrix({&view, 1}), load_bias(file, name, rows, bias)};
}

Tensor linear(Backend& backend, const Activation& x, const Linear& l) {
  const Tensor y = backend.matmul(x, *l.weight);
  if (!l.bias.empty()) backend.add_bias(y, l.bias);
  return y;
}

void linear_add(Backend& backend, Tensor& sum, const Activation& x, const Linear& l) {
  backend.matmul_add(sum, x, *l.weight);
  if (!l.bias.empty()) backend.add_bias(sum, l.bias);
}

// ---- attention

AttentionShape attention_shape(const ModelConfig& config) {
  return {.num_attention_heads = config.num_attention_heads,
          .num_key_value_heads = config.num_key_value_heads,
          .head_dim = config.head_dim,
          .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(config.head_dim)))};
}

namespace {

Linear load_qkv(const weights::WeightFile& file, Backend& backend, int64_t layer, int64_t hidden,
                int64_t q_rows, int64_t kv_rows, Bias bias) {
  const std::string stacked = layer_name(layer, "attn_qkv");
  if (file.find(stacked + ".weight"))
    return load_linear(file, backend, stacked, q_rows + 2 * kv_rows, hidden, bias);
  std::vector<WeightView> parts;
  Linear qkv;
  for (const char* part : {"attn_q", "attn_k", "attn_v"}) {
    const std::string name = layer_name(layer, part);
    const int64_t rows = parts.empty() ? q_rows : kv_rows;
    parts.push_back(file.matrix(name + ".weight", rows, hidden));
    const std::vector<float> values = load_bias(file, name, rows, bias);
    qkv.bias.insert(qkv.bias.end(), values.begin(), values.end());
  }
  if (!qkv.bias.empty() && std::ssize(qkv.bias) != q_rows + 2 * kv_rows)
    throw make_error(ErrorCode::invalid_argument,
                     "layer {} must have a bias for all of q, k and v, or for none", layer);
  qkv.weight = backend.load_matrix(parts);
  return qkv;
}

}  // namespace

Attention load_attention(const weights::WeightFile& file, Backend& backend, int64_t layer,
                         int64_t hidden_size, const AttentionShape& shape, const Rope* rope, float norm_eps,
                         const AttentionOptions& options) {
  const int64_t q_rows = shape.num_attention_heads * shape.head_dim;
  const int64_t kv_rows = shape.num_key_value_heads * shape.head_dim;
  Attention attention{.shape = shape,
                      .rope = rope,
                      .qkv = {},
                      .q_norm = {},
                      .k_norm = {},
                      .norm_eps = norm_eps,
                      .output = {}};
  attention.qkv = load_qkv(file, backend, layer, hidden_size, q_rows, kv_rows, options.bias);
  if (options.norm != QkNorm::none) {
    const bool row = options.norm == QkNorm::whole_row;
    attention.q_norm = file.vector(layer_name(layer, "attn_q_norm.weight"), row ? q_rows : shape.head_dim);
    attention.k_norm = file.vector(layer_name(layer, "attn_k_norm.weight"), row ? kv_rows : shape.head_dim);
  }
  attention.output =
      load_linear(file, backend, layer_name(layer, "attn_output"), hidden_size, q_rows, options.output_bias);
  return attention;
}

Activation attend(Backend& backend, const Attention& attention, const Activation& x,
                  const compute::Batch& batch, compute::KvCache& cache, int64_t cache_layer, Tensor* last) {
  const AttentionShape& shape = attention.shape;
  Tensor qkv = linear(backend, x, attention.qkv);
  if (!attention.q_norm.empty()) {
    const int64_t q = shape.num_attention_heads * shape.head_dim,
                  k = shape.num_key_value_heads * shape.head_dim;
    backend.rms_normalize(columns(qkv, 0, q), attention.q_norm, attention.norm_eps);
    backend.rms_normalize(columns(qkv, q, k), attention.k_norm, attention.norm_eps);
  }
  const compute::RopeTable table = attention.rope ? attention.rope->table() : compute::RopeTable{};
  backend.rope_and_store(qkv, table, shape, batch, cache, cache_layer);
  if (last == nullptr || !shape.causal) return backend.attention(qkv, shape, batch, cache, cache_layer);
  Tensor* const tensors[] = {&qkv, last};
  return backend.attention(qkv, shape, backend.narrow(batch, tensors), cache, cache_layer);
}

// ---- gated MLP

GatedMlp load_gated_mlp(const weights::WeightFile& file, Backend& backend, int64_t layer, int64_t hidden_size,
                        int64_t intermediate_size, compute::Function function) {
  const std::string gate_name = layer_name(layer, "ffn_gate"), up_name = layer_name(layer, "ffn_up");
  const int64_t half = intermediate_size;
  GatedMlp mlp;
  mlp.function = function;
  mlp.down = load_linear(file, backend, layer_name(layer, "ffn_down"), hidden_size, half);
  const bool stacked = !file.find(gate_name + ".weight") && file.find(up_name + ".weight") &&
                       file.find(up_name + ".weight")->shape == std::vector<int64_t>{2 * half, hidden_size};
  WeightView parts[2];
  if (stacked) {
    const WeightView both = file.matrix(up_name + ".weight", 2 * half, hidden_size);
    parts[0] = matrix_rows(both, 0, half), parts[1] = matrix_rows(both, half, half);
    mlp.gate_up_bias = load_bias(file, up_name, 2 * half, Bias::if_present);
  } else {
    parts[0] = file.matrix(gate_name + ".weight", half, hidden_size);
    parts[1] = file.matrix(up_name + ".weight", half, hidden_size);
    if (file.find(gate_name + ".bias") || file.find(up_name + ".bias")) {
      mlp.gate_up_bias = load_bias(file, gate_name, half, Bias::required);
      const std::vector<float> up = load_bias(file, up_name, half, Bias::required);
      mlp.gate_up_bias.insert(mlp.gate_up_bias.end(), up.begin(), up.end());
    }
  }
  mlp.gate_up =
      mlp.gate_up_bias.empty() ? backend.load_gate_up(parts[0], parts[1]) : backend.load_matrix(parts);
  return mlp;
}

Activation gated(Backend& backend, const GatedMlp& mlp, const Activation& x) {
  if (mlp.gate_up_bias.empty()) return backend.gated_matmul(x, *mlp.gate_up, mlp.function);
  const Tensor both = backend.matmul(x, *mlp.gate_up);
  backend.add_bias(both, mlp.gate_up_bias);
  const Tensor gate = columns(both, 0, both.columns / 2),
               up = columns(both, both.columns / 2, both.columns / 2);
  backend.apply(gate, mlp.function);
  backend.multiply(gate, up);
  return backend.activation(gate);
}

// ---- embeddings and head

Embeddings load_embeddings(const weights::WeightFile& file, Backend& backend, const ModelConfig& config) {
  Embeddings embeddings;
  embeddings.input =
      backend.load_embedding(file.matrix("token_embd.weight", config.vocab_size, config.hidden_size));
  if (!config.tie_word_embeddings) {
    WeightView head = file.matrix("output.weight", config.vocab_size, config.hidden_size);
    head.tensor.clear();  // its rows are the batch's outputs, so no adapter can change it
    embeddings.output = backend.load_matrix({&head, 1});
  }
  embeddings.final_norm = file.vector("output_norm.weight", config.hidden_size);
  return embeddings;
}

Tensor wanted_rows(Backend& backend, const Tensor& x, const compute::Batch& batch) {
  return x.rows == std::ssize(batch.output_rows) ? x : backend.select_rows(x, batch.output_rows);
}

Tensor logits(Backend& backend, const Embeddings& embeddings, const Tensor& x, const compute::Batch& batch,
              float eps) {
  const Activation last = backend.rms_norm(wanted_rows(backend, x, batch), embeddings.final_norm, eps);
  return backend.matmul(last, embeddings.output ? *embeddings.output : *embeddings.input);
}

Tensor final_states(Backend& backend, const Embeddings& embeddings, const Tensor& x,
                    const compute::Batch& batch, float eps) {
  const Tensor states = wanted_rows(backend, x, batch);
  backend.rms_normalize(states, embeddings.final_norm, eps);
  return states;
}

int64_t token_weight_bytes(const weights::WeightFile& file) {
  const bool tied = file.find("output.weight") == nullptr;
  int64_t bytes = 0;
  for (const weights::TensorEntry& tensor : file.tensors())
    if (tensor.name != "token_embd.weight" || tied) bytes += tensor.bytes;
  return bytes;
}

// ---- scratch

int64_t decoder_scratch_bytes(const ModelConfig& config, int64_t rows, int64_t output_rows) {
  const int64_t heads = config.num_attention_heads * config.head_dim;
  const int64_t qkv = heads + 2 * config.num_key_value_heads * config.head_dim;
  const int64_t layer = 4 * compute::scratch::result(rows, config.hidden_size) +
                        compute::scratch::result(rows, qkv) + compute::scratch::result(rows, heads) +
                        3 * compute::scratch::result(rows, config.intermediate_size);
  const int64_t head = 2 * compute::scratch::result(output_rows, config.hidden_size) +
                       2 * compute::scratch::result(output_rows, config.vocab_size);
  return compute::scratch::result(rows, config.hidden_size) + std::max(layer, head);
}

}  // namespace neutrino::models
