// Qwen 2, 2.5 and 3, the dense models. GGUF pairs the rotary halves as Hugging Face does.
#include "weights/layouts/decoder.h"
#include "weights/layouts/pooling.h"

namespace neutrino::weights {
namespace {

// Before layer_types, the layers from max_window_layers on had a window.
bool slides(const Layout& layout, int64_t layer) { return layer >= layout.integer("max_window_layers", 28); }

void map_qwen(Layout& layout, std::string_view architecture) {
  layout.set_architecture(architecture);
  require_activation(layout, "hidden_act", {"silu", "swish"});
  layout.set_common();
  layout.set_rope();
  if (layout.boolean("use_sliding_window", false))
    set_windows(layout, layout.integer("sliding_window", 0), slides);
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_gated_mlp(layout, to, from + "mlp.");
  }
  if (layout.has("score.weight")) {
    layout.set("pooling_type", kPoolingRank);
    layout.tensor("cls.output.weight", "score.weight");
  } else {
    set_pooling(layout);
  }
}

}  // namespace

void map_qwen2(Layout& layout) { map_qwen(layout, "qwen2"); }
void map_qwen3(Layout& layout) { map_qwen(layout, "qwen3"); }

}  // namespace neutrino::weights
