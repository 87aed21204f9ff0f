// ERNIE 4.5, the dense models. q and k rotate adjacent rows in Hugging Face's form, too. Checkpoints that Paddle wrote fuse q,
// k and v, and gate and up, and call the model "ernie.".
#include "weights/layouts/decoder.h"

namespace neutrino::weights {

void map_ernie4_5(Layout& layout) {
  layout.set_architecture("ernie4_5");
  require_activation(layout, "hidden_act", {"silu", "swish"});
  layout.set_common();
  layout.set_rope();
  set_rope_base(layout, 5e5);
  const std::string model = layout.has("ernie.embed_tokens.weight") ? "ernie." : "model.";
  if (model == "model.") {
    map_ends(layout);
  } else {
    layout.tensor("token_embd.weight", model + "embed_tokens.weight");
    layout.tensor("output_norm.weight", model + "norm.weight");
    if (layout.boolean("tie_word_embeddings", true) || !layout.has("lm_head.weight"))
      layout.ignore("lm_head.");
    else
      layout.tensor("output.weight", "lm_head.weight");
  }
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("{}layers.{}.", model, i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    const std::string fused = from + "mlp.up_gate_proj";
    if (!layout.has(fused + ".weight")) {
      map_gated_mlp(layout, to, from + "mlp.");
      continue;
    }
    const int64_t rows = layout.integer("intermediate_size");
    map_projection(layout, to + "ffn_gate", fused, {.rows = row_range(0, rows)});
    map_projection(layout, to + "ffn_up", fused, {.rows = row_range(rows, rows)});
    map_projection(layout, to + "ffn_down", from + "mlp.down_proj");
  }
}

}  // namespace neutrino::weights
