// What the layouts of mixtures of experts share.
#pragma once

#include <string>

#include "weights/layouts/decoder.h"
#include "weights/layouts/layout.h"

namespace neutrino::weights {

// The experts below `from` ("model.layers.3.mlp."): one matrix a tensor, experts.0.gate_proj.weight ..., or all of them in
// experts.gate_up_proj (experts, 2 moe_intermediate_size, hidden_size), gate above up, and experts.down_proj. They become
// `to`ffn_{gate,up,down}_exps.weight.
void map_experts(Layout& layout, const std::string& to, const std::string& from, int64_t experts,
                 int64_t intermediate);

// What the router does and how large the experts are; set_experts() writes the keys of what is not 0.
struct ExpertKeys {
  int64_t count = 0, used = 0, intermediate = 0;
  int64_t shared = 0;  // experts that see every row, as one SwiGLU of `shared` times `intermediate`
  int64_t groups = 0, groups_used = 0;
  int64_t gating = 0;  // 1 softmax, 2 sigmoid, 3 softmax of the chosen
  bool normalize = false;
  double scale = 0;
};
void set_experts(Layout& layout, const ExpertKeys& keys);

// A layer's router, selection bias, experts and shared experts, as DeepSeek, GLM and ERNIE name them: `from`gate.weight,
// gate.e_score_correction_bias or moe_statics.e_score_correction_bias, experts, shared_experts. A layer without a router is a
// gated MLP.
void map_mixture(Layout& layout, const std::string& to, const std::string& from, const ExpertKeys& keys);

// Ignores the layers after the last (multi-token prediction).
void ignore_prediction_layers(Layout& layout, int64_t count);

}  // namespace neutrino::weights
