// Phi 3 and 4. The canonical form keeps q, k and v stacked, and gate and up, as Hugging Face does.
#include "weights/layouts/decoder.h"

namespace neutrino::weights {

void map_phi3(Layout& layout) {
  layout.set_architecture("phi3");
  require_activation(layout, "hidden_act", {"silu", "swish"});
  layout.set_common();
  layout.set_rope();
  set_windows(layout, layout.integer("sliding_window", 0));
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_projection(layout, to + "attn_qkv", from + "self_attn.qkv_proj");
    map_projection(layout, to + "attn_output", from + "self_attn.o_proj");
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_projection(layout, to + "ffn_up", from + "mlp.gate_up_proj");
    map_projection(layout, to + "ffn_down", from + "mlp.down_proj");
  }
}

}  // namespace neutrino::weights
