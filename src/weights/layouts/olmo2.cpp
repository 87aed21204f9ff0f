// OLMo 2 and 3: norms behind the parts of a layer, none before.
#include "weights/layouts/decoder.h"

namespace neutrino::weights {
namespace {

bool slides(const Layout&, int64_t layer) { return (layer + 1) % 4 != 0; }

void map_olmo(Layout& layout) {
  layout.set_architecture("olmo2");
  require_activation(layout, "hidden_act", {"silu", "swish"});
  layout.set_common();
  layout.set_rope();
  set_rope_base(layout, 5e5);
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "post_attention_norm.weight", from + "post_attention_layernorm.weight");
    map_gated_mlp(layout, to, from + "mlp.");
    layout.tensor(to + "post_ffw_norm.weight", from + "post_feedforward_layernorm.weight");
  }
}

}  // namespace

void map_olmo2(Layout& layout) { map_olmo(layout); }

void map_olmo3(Layout& layout) {
  map_olmo(layout);
  set_windows(layout, layout.integer("sliding_window", 4096), slides);
  layout.set("rope.freq_base_swa", rope_base(layout, "sliding_attention"));
}

}  // namespace neutrino::weights
