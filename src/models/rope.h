// Rotary positions (Su et al. 2021, "RoFormer"): tables of cos and sin, and the ways in which models stretch them to longer
// texts than they were first trained on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "compute/backend.h"
#include "models/model.h"
#include "weights/weight_file.h"

namespace neutrino::models {

struct RopeScaling {
  enum class Type : uint8_t { none, linear, yarn };
  Type type = Type::none;
  double factor = 1;             // linear, yarn: how much longer the texts became
  int64_t original_context = 0;  // yarn: positions before that
  double beta_fast = 32;         // yarn: pairs that turn more often than this over them keep their frequency,
  double beta_slow = 1;          // those that turn less often than this have it divided by `factor`
  bool truncate = true;          // yarn: whole pairs only (gpt-oss does without)
  double attention_factor = 1;   // multiplies cos and sin
  std::vector<float> divisors = {};  // (rotary_dim / 2) of the frequencies, or empty: Llama 3's, longrope's
};

// From rope.scaling.* and the tensors rope_freqs (Llama 3) and rope_factors_{short,long} (longrope), of which `context`, the
// positions the model is loaded for, picks one: long beyond rope.scaling.original_context_length. Throws Error for a scaling
// that is not known.
RopeScaling read_rope_scaling(const weights::WeightFile& file, const ModelConfig& config, int64_t context);

// Llama 3's divisors and YaRN's ramp and magnitude are those of transformers' modeling_rope_utils.py.
// The frequency of each pair: theta^(-2i / rotary_dim), scaled.
std::vector<double> rope_frequencies(int64_t rotary_dim, double theta, const RopeScaling& scaling);

// cos and sin of position * frequency, rounded to float32 from double.
class Rope {
 public:
  Rope(int64_t positions, int64_t rotary_dim, double theta, compute::RopePairs pairs,
       const RopeScaling& scaling = {});
  compute::RopeTable table() const { return {cosine_, sine_, positions_, rotary_dim_, pairs_}; }

 private:
  std::vector<float> cosine_, sine_;  // (positions, rotary_dim / 2)
  int64_t positions_, rotary_dim_;
  compute::RopePairs pairs_;
};

}  // namespace neutrino::models
