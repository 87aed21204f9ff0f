// What architectures share: the parts of a decoder layer with their weights, loaded and computed in one way. A model's file
// says which parts it has, in which order, and how they are joined; nothing here knows an architecture's name.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compute/backend.h"
#include "models/hyperparameters.h"
#include "models/rope.h"
#include "weights/weight_file.h"

namespace neutrino::models {

std::string layer_name(int64_t layer, std::string_view part);  // "blk.3.attn_q"

// All `size` elements of a tensor, as float32, whatever its dimensions: of small ones that files write in several shapes.
std::vector<float> read_values(const weights::WeightFile& file, const std::string& name, int64_t size);

// Rows [first, first + count) of a matrix in a file.
compute::WeightView matrix_rows(const compute::WeightView& matrix, int64_t first, int64_t count);

// A matrix in float32, row by row, whatever it is stored as: for Backend::matmul_float().
std::vector<float> load_float_matrix(const weights::WeightFile& file, const std::string& name, int64_t rows,
                                     int64_t columns);

// ---- y = x W^T + b
enum class Bias : uint8_t { none, if_present, required };

struct Linear {
  std::unique_ptr<compute::Matrix> weight;
  std::vector<float> bias;  // (rows), or empty
};

// `name` without ".weight" and ".bias".
Linear load_linear(const weights::WeightFile& file, compute::Backend& backend, const std::string& name,
                   int64_t rows, int64_t columns, Bias bias = Bias::if_present);
std::vector<float> load_bias(const weights::WeightFile& file, const std::string& name, int64_t rows,
                             Bias bias);
compute::Tensor linear(compute::Backend& backend, const compute::Activation& x, const Linear& l);
void linear_add(compute::Backend& backend, compute::Tensor& sum, const compute::Activation& x,
                const Linear& l);

// ---- grouped-query self-attention with rotary positions
struct Attention {
  compute::AttentionShape shape;
  const Rope* rope = nullptr;         // null: no positions (NoPE)
  Linear qkv;                         // ((heads + 2 kv heads) * head_dim, hidden)
  std::vector<float> q_norm, k_norm;  // (head_dim): of each head; (heads * head_dim): of the row; or empty
  float norm_eps = 0;                 // of q_norm and k_norm
  Linear output;                      // (hidden, heads * head_dim)
};

enum class QkNorm : uint8_t { none, per_head, whole_row };

struct AttentionOptions {
  Bias bias = Bias::if_present;         // of q, k and v
  Bias output_bias = Bias::if_present;  // of the output projection
  QkNorm norm = QkNorm::none;           // RMSNorm of q and k before the rotation
};

// The shape that a configuration describes: scale 1 / sqrt(head_dim), no window.
compute::AttentionShape attention_shape(const ModelConfig& config);

// attn_q, attn_k and attn_v (or attn_qkv, stacked in the file) and attn_output of a layer. `rope` is borrowed.
Attention load_attention(const weights::WeightFile& file, compute::Backend& backend, int64_t layer,
                         int64_t hidden_size, const compute::AttentionShape& shape, const Rope* rope,
                         float norm_eps, const AttentionOptions& options = {});

// The heads' values for rows x, whose keys and values go to the cache; what the output projection is multiplied with.
// `last` is the running sum, in the last layer that mixes rows: all rows' keys and values are stored, but from there on only
// those whose logits are wanted go on, in the sum, too. A part of a prompt that is not its end has none.
compute::Activation attend(compute::Backend& backend, const Attention& attention,
                           const compute::Activation& x, const compute::Batch& batch, compute::KvCache& cache,
                           int64_t cache_layer, compute::Tensor* last = nullptr);

// ---- down(f(gate x) * (up x))
struct GatedMlp {
  std::unique_ptr<compute::Matrix> gate_up;  // 2 x (intermediate, hidden)
  std::vector<float> gate_up_bias;           // (2 intermediate), or empty
  Linear down;                               // (hidden, intermediate)
  compute::Function function = compute::Function::silu;
};

// ffn_gate, ffn_up (or ffn_up alone with both stacked, gate first) and ffn_down of a layer.
GatedMlp load_gated_mlp(const weights::WeightFile& file, compute::Backend& backend, int64_t layer,
                        int64_t hidden_size, int64_t intermediate_size,
                        compute::Function function = compute::Function::silu);
// What `down` is multiplied with.
compute::Activation gated(compute::Backend& backend, const GatedMlp& mlp, const compute::Activation& x);

// ---- the two ends of a language model
struct Embeddings {
  std::unique_ptr<compute::Matrix> input;   // (vocab_size, hidden)
  std::unique_ptr<compute::Matrix> output;  // (vocab_size, hidden); null: tied, the input serves
  std::vector<float> final_norm;            // (hidden)
};

Embeddings load_embeddings(const weights::WeightFile& file, compute::Backend& backend,
                           const ModelConfig& config);
// The rows of the running sum whose logits are wanted. The batch has some.
compute::Tensor wanted_rows(compute::Backend& backend, const compute::Tensor& x, const compute::Batch& batch);

// The head's product with RMSNorm of those rows.
compute::Tensor logits(compute::Backend& backend, const Embeddings& embeddings, const compute::Tensor& x,
                       const compute::Batch& batch, float eps);

// Those rows themselves, normalised: the output of a model that pools.
compute::Tensor final_states(compute::Backend& backend, const Embeddings& embeddings,
                             const compute::Tensor& x, const compute::Batch& batch, float eps);

// Bytes of the weights that one token reads: all but a table of embeddings that is not the head, too.
int64_t token_weight_bytes(const weights::WeightFile& file);

// Scratch (compute/scratch_bytes.h) for a step of a decoder whose layers give theirs back (ScratchScope) and hold at once,
// beside the running sum, four results as wide as it, qkv, the heads' values, and three of the MLP's.
int64_t decoder_scratch_bytes(const ModelConfig& config, int64_t rows, int64_t output_rows);

}  // namespace neutrino::models
