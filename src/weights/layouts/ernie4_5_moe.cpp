// ERNIE 4.5 with experts. Both sides pair adjacent rows for the rotation.
#include "base/error.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

constexpr double kNormMin = 1e-12;  // that models/ernie4_5_moe.cpp divides by at least

}  // namespace

void map_ernie4_5_moe(Layout& layout) {
  layout.set_architecture("ernie4_5-moe");
  layout.set_common();
  layout.set_rope();
  set_rope_base(layout, 500000);
  require_activation(layout, "hidden_act", {"silu", "swish"});
  if (layout.boolean("use_bias", false))
    throw Error(ErrorCode::unimplemented, "config.json: use_bias is not known for ERNIE's mixtures");
  if (layout.number("moe_norm_min", kNormMin) != kNormMin)
    throw make_error(ErrorCode::unimplemented, "config.json: moe_norm_min must be {}, got {}", kNormMin,
                     layout.number("moe_norm_min"));
  const ExpertKeys experts{.count = layout.integer("moe_num_experts"),
                           .used = layout.integer("moe_k"),
                           .intermediate = layout.integer("moe_intermediate_size"),
                           .shared = layout.integer("moe_num_shared_experts", 0),
                           .gating = 1,
                           .normalize = true};
  set_experts(layout, experts);
  if (experts.shared > 0)
    layout.set("expert_shared_feed_forward_length", experts.shared * experts.intermediate);
  layout.set("interleave_moe_layer_step", layout.integer("moe_layer_interval", 1));
  layout.set("leading_dense_block_count", layout.integer("moe_layer_start_index", 1));
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_mixture(layout, to, from + "mlp.", experts);
  }
  layout.ignore("model.mtp_");
}

}  // namespace neutrino::weights
