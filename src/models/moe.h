// Mixtures of experts: the feed-forward part of a layer, where a router sends each row to a few of many small MLPs (Shazeer et
// al. 2017), beside a shared expert that sees every row in some families (DeepSeek, 2024).
//
//   sum += weights of the chosen * experts of the chosen (x) + shared(x)
//
// Tensors of layer N, GGUF's names, without "blk.N." and ".weight":
//   ffn_gate_inp           (experts, hidden): the router; with .bias (experts) for gpt-oss
//   exp_probs_b.bias       (experts): added to the probabilities when choosing, and only then
//   ffn_gate_exps, ffn_up_exps, ffn_down_exps    the experts, (experts, rows, columns); or gate above up in ffn_gate_up_exps;
//                          each with .bias (experts, rows) for gpt-oss; experts without a gate have none
//   ffn_gate_shexp, ffn_up_shexp, ffn_down_shexp the shared expert; ffn_gate_inp_shexp (hidden): its gate, a sigmoid
//   ffn_latent_down, ffn_latent_up               projections around experts that work on a smaller hidden size
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "compute/backend.h"
#include "models/layers.h"
#include "weights/weight_file.h"

namespace neutrino::models {

// What a family's code says where its files are silent.
struct MoeDefaults {
  compute::Gating gating = compute::Gating::softmax;
  bool normalize = false;
  float weights_min = 0;  // the divisor's minimum where the chosen weights are normalised
  compute::Function function = compute::Function::silu;
};

// One mixture, the same in every layer that has one.
struct MoeConfig {
  compute::RouterShape router = {};  // without its bias, which is a layer's
  int64_t hidden_size = 0;
  int64_t expert_hidden_size = 0;     // what experts read and write: hidden_size, or the latent size
  int64_t moe_intermediate_size = 0;  // of an expert
  // Of the shared expert: expert_shared_count times moe_intermediate_size, or expert_shared_feed_forward_length. A tensor has
  // one of the two, and converters are known to write nonsense for the other.
  std::array<int64_t, 2> shared_intermediate_sizes = {};
  compute::Function function = compute::Function::silu;
};

// Reads <architecture>.expert_count, expert_used_count, expert_feed_forward_length, expert_group_count and
// expert_group_used_count, expert_gating_func (1 softmax, 2 sigmoid, 3 softmax of the chosen), expert_weights_norm,
// expert_weights_scale (0: none), expert_shared_count, expert_shared_feed_forward_length and moe_latent_size. Groups score by
// their largest probability under softmax (DeepSeek V2), else by the sum of their two largest (V3 and its relatives). Throws
// Error for counts that no router can serve: more used than there are, groups that do not divide.
MoeConfig read_moe_config(const weights::WeightFile& file, int64_t hidden_size, const MoeDefaults& defaults);

// One layer's mixture.
struct Moe {
  const MoeConfig* config = nullptr;                // the model's
  std::vector<float> router;                        // (experts, hidden_size)
  std::vector<float> router_bias;                   // (experts), or empty
  std::vector<float> selection_bias;                // (experts), or empty
  std::unique_ptr<compute::Experts> experts;        // over expert_hidden_size
  Linear latent_down, latent_up;                    // no weight: experts see the rows themselves
  std::unique_ptr<compute::Matrix> shared_gate_up;  // null: no gate, or no shared expert
  Linear shared_up;                                 // of a shared expert without a gate
  Linear shared_down;                               // no weight: no shared expert
  std::vector<float> shared_expert_gate;            // (hidden_size), or empty
};

// Does this layer have a router? Layers without one are dense.
bool has_moe(const weights::WeightFile& file, int64_t layer);
// `config` must outlive the result. Throws Error that names a tensor which is missing or has another shape.
std::unique_ptr<Moe> load_moe(const weights::WeightFile& file, compute::Backend& backend, int64_t layer,
                              const MoeConfig& config);
// sum += the mixture of x; x: (rows, hidden_size), normalised.
void add_moe(compute::Backend& backend, const Moe& moe, compute::Tensor& sum, const compute::Tensor& x);

// What follows attention in a layer: a mixture, or in a layer without a router a gated MLP.
struct FeedForward {
  std::vector<float> norm;   // (hidden_size)
  std::unique_ptr<Moe> moe;  // null: a dense layer
  GatedMlp mlp;              // of a dense layer
};
// `norm_name` is that of the norm before it: "ffn_norm" in most families.
FeedForward load_feed_forward(const weights::WeightFile& file, compute::Backend& backend, int64_t layer,
                              const ModelConfig& config, const MoeConfig& moe,
                              std::string_view norm_name = "ffn_norm");
// x += feed_forward(rms_norm(x))
void add_feed_forward(compute::Backend& backend, const FeedForward& feed_forward, compute::Tensor& x,
                      float eps);

// Scratch of one add_feed_forward(), beside what a dense layer takes.
int64_t moe_scratch_bytes(const MoeConfig& config, int64_t rows);
// As token_weight_bytes(), of experts only the share that a token reads.
int64_t token_weight_bytes(const weights::WeightFile& file, const MoeConfig& config);

}  // namespace neutrino::models
