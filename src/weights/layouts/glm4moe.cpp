// GLM-4.5, 4.6, 4.7 and their Air models. GGUF pairs the rotary halves as Hugging Face does. Layers after the last predict
// further tokens and are left out.
#include "base/error.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

constexpr int64_t kPredictionLayersMax = 16;
constexpr double kPartialRotaryFactor = 0.5;  // where config.json is silent

int64_t rotary_dim(const Layout& layout) {
  const json::object rope = layout.rope();
  const json::value* factor = rope.if_contains("partial_rotary_factor");
  if (!factor || factor->is_null())
    return static_cast<int64_t>(static_cast<double>(layout.head_dim()) * kPartialRotaryFactor);
  return 0;  // set_rope() reads it
}

}  // namespace

void map_glm4moe(Layout& layout) {
  layout.set_architecture("glm4moe");
  layout.set_common();
  layout.set_rope(rotary_dim(layout));
  require_activation(layout, "hidden_act", {"silu", "swish"});
  const ExpertKeys experts{.count = layout.integer("n_routed_experts"),
                           .used = layout.integer("num_experts_per_tok"),
                           .intermediate = layout.integer("moe_intermediate_size"),
                           .shared = layout.integer("n_shared_experts", 0),
                           .groups = layout.integer("n_group", 1),
                           .groups_used = layout.integer("topk_group", 1),
                           .gating = 2,
                           .normalize = layout.boolean("norm_topk_prob", true),
                           .scale = layout.number("routed_scaling_factor", 1)};
  set_experts(layout, experts);
  layout.set("leading_dense_block_count", layout.integer("first_k_dense_replace", 1));
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "post_attention_norm.weight", from + "post_attention_layernorm.weight");
    map_mixture(layout, to, from + "mlp.", experts);
  }
  ignore_prediction_layers(layout, kPredictionLayersMax);
}

}  // namespace neutrino::weights
