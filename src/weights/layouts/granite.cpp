// Granite 3: llama with factors.
#include "weights/layouts/decoder.h"

namespace neutrino::weights {

void map_granite(Layout& layout) {
  layout.set_architecture("granite");
  require_activation(layout, "hidden_act", {"silu", "swish"});
  layout.set_common();
  layout.set_rope();
  layout.set("attention.scale", layout.number("attention_multiplier", 1));
  layout.set("embedding_scale", layout.number("embedding_multiplier", 1));
  layout.set("residual_scale", layout.number("residual_multiplier", 1));
  layout.set("logit_scale", layout.number("logits_scaling", 1));
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::paired);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_gated_mlp(layout, to, from + "mlp.");
  }
}

}  // namespace neutrino::weights
