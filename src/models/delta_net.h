// The gated delta net (Yang et al. 2024, "Gated Delta Networks"): a layer that keeps, instead of all keys and values, one
// matrix a head that maps keys to values and is corrected by each token.
//
//   [q | k | v] = silu(causal_conv(W_qkv x)),  z = W_z x,  beta = W_b x,  alpha = W_a x
//   y = delta net of q, k, v (compute::Backend::gated_delta_net);  result = W_out (rms_norm(y) of each head * silu(z))
//
// Tensors of layer N, GGUF's names, without "blk.N." and ".weight":
//   attn_qkv, attn_gate (z), ssm_beta, ssm_alpha; or in Qwen3-Next ssm_ba, which has for each key head the rows of its value
//   heads' beta and then of their alpha (and in its first files ssm_in, for each key head its rows of q, k, v and z)
//   ssm_conv1d (channels, kernel), ssm_a and ssm_dt.bias (value heads), ssm_norm (value_dim), ssm_out
//
// State of a sequence: the convolution's last inputs, then each head's matrix.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "compute/backend.h"
#include "weights/weight_file.h"

namespace neutrino::models {

// How a file orders value heads. Both belong to key head h % key_heads in the operations, so the rows of a file that has one
// key head's value heads after the other's are dealt out when they are loaded; what ssm_out is multiplied with is put back.
enum class ValueHeads : uint8_t { dealt_out, by_key_head };

// The same in all layers of a model.
struct DeltaNetConfig {
  int64_t hidden_size = 0;
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0;
  ValueHeads order = ValueHeads::dealt_out;
  int64_t kernel = 0;  // of the convolution
  float norm_eps = 0;

  int64_t file_head(int64_t head) const;                      // where value head `head` stands in the file
  int64_t keys() const { return key_heads * key_dim; }        // columns of q, and of k
  int64_t values() const { return value_heads * value_dim; }  // columns of v, and of z
  int64_t channels() const { return 2 * keys() + values(); }  // of the convolution
  int64_t convolution_floats() const { return (kernel - 1) * channels(); }
  int64_t state_floats() const { return convolution_floats() + value_heads * key_dim * value_dim; }
};

// Reads ssm.group_count (key heads), ssm.time_step_rank (value heads), ssm.state_size (key_dim), ssm.inner_size (value heads
// times value_dim) and ssm.conv_kernel. Throws Error for sizes that do not divide.
DeltaNetConfig read_delta_net_config(const weights::WeightFile& file, int64_t hidden_size, float norm_eps,
                                     ValueHeads order);

struct DeltaNet {
  const DeltaNetConfig* config = nullptr;   // the model's
  std::unique_ptr<compute::Matrix> input;   // q, k, v, z, beta, alpha, stacked
  std::vector<float> convolution;           // (channels, kernel)
  std::vector<float> a, dt_bias;            // (value_heads): -exp(A_log)
  std::vector<float> norm;                  // (value_dim)
  std::unique_ptr<compute::Matrix> output;  // (hidden_size, values)
};

// `config` must outlive the result. Throws Error that names a tensor which is missing or has another shape.
DeltaNet load_delta_net(const weights::WeightFile& file, compute::Backend& backend, int64_t layer,
                        const DeltaNetConfig& config);
// sum += the layer's result for x, which is normalised. `state_layer` counts in KvCacheShape::states.
void add_delta_net(compute::Backend& backend, const DeltaNet& net, compute::Tensor& sum,
                   const compute::Activation& x, const compute::Batch& batch, compute::KvCache& cache,
                   int64_t state_layer);
// Scratch of one add_delta_net().
int64_t delta_net_scratch_bytes(const DeltaNetConfig& config, int64_t rows);

}  // namespace neutrino::models
