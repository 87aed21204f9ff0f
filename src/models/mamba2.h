// Mamba2 (Dao and Gu 2024, "Transformers are SSMs"): a layer that keeps, instead of all keys and values, one matrix a head
// that fades and takes up each token.
//
//   [z | x B C | dt] = W_in x;  [x | B | C] = silu(causal_conv(x B C) + bias)
//   y = scan of x, B, C, dt (compute::Backend::mamba2_scan);  result = W_out rms_norm(y * silu(z)), each group by itself
//
// Tensors of layer N, GGUF's names, without "blk.N." and ".weight":
//   ssm_in, ssm_conv1d (channels, kernel) and its .bias, ssm_a, ssm_d and ssm_dt.bias (heads), ssm_norm (groups, inner /
//   groups), ssm_out
//
// State of a sequence: the convolution's last inputs, then each head's matrix.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "compute/backend.h"
#include "models/layers.h"
#include "weights/weight_file.h"

namespace neutrino::models {

// The same in all layers of a model.
struct Mamba2Config {
  int64_t hidden_size = 0;
  int64_t heads = 0, head_dim = 0, groups = 0, state_size = 0;
  int64_t kernel = 0;  // of the convolution
  float time_step_min = 0;
  float norm_eps = 0;

  int64_t inner() const { return heads * head_dim; }
  int64_t channels() const { return inner() + 2 * groups * state_size; }  // of the convolution
  int64_t projection() const { return inner() + channels() + heads; }     // z, x B C, dt
  int64_t convolution_floats() const { return (kernel - 1) * channels(); }
  int64_t state_floats() const { return convolution_floats() + inner() * state_size; }
};

// Reads ssm.time_step_rank (heads), ssm.inner_size, ssm.group_count, ssm.state_size, ssm.conv_kernel, and our own
// ssm.time_step_min (0 where it is missing, as llama.cpp has it). Throws Error for sizes that do not divide.
Mamba2Config read_mamba2_config(const weights::WeightFile& file, int64_t hidden_size, float norm_eps);

struct Mamba2 {
  const Mamba2Config* config = nullptr;  // the model's
  Linear input;                          // (projection, hidden_size)
  std::vector<float> convolution;        // (channels, kernel)
  std::vector<float> convolution_bias;   // (channels), or empty
  std::vector<float> a, d, dt_bias;      // (heads); a: -exp(A_log)
  std::vector<float> norm;               // (inner)
  Linear output;                         // (hidden_size, inner)
};

// `config` must outlive the result. Throws Error that names a tensor which is missing or has another shape.
Mamba2 load_mamba2(const weights::WeightFile& file, compute::Backend& backend, int64_t layer,
                   const Mamba2Config& config);
// sum += the layer's result for x, which is normalised. `state_layer` counts in KvCacheShape::states.
void add_mamba2(compute::Backend& backend, const Mamba2& mamba, compute::Tensor& sum,
                const compute::Activation& x, const compute::Batch& batch, compute::KvCache& cache,
                int64_t state_layer);
// Scratch of one add_mamba2().
int64_t mamba2_scratch_bytes(const Mamba2Config& config, int64_t rows);

}  // namespace neutrino::models
