// Nemotron-4 and Minitron. Their LayerNorm multiplies with 1 + weight; the canonical form holds the sum.
#include "weights/layouts/decoder.h"

namespace neutrino::weights {
namespace {

void map_norm(Layout& layout, const std::string& to, const std::string& from) {
  layout.tensor(to + ".weight", from + ".weight", {.map = Transform::Map::add_one});
  layout.tensor(to + ".bias", from + ".bias");
}

}  // namespace

void map_nemotron(Layout& layout) {
  layout.set_architecture("nemotron");
  require_activation(layout, "hidden_act", {"relu2"});
  layout.set_common();
  const json::object rope = layout.rope();
  const bool partial = rope.contains("partial_rotary_factor");
  layout.set_rope(partial ? 0 : layout.head_dim() / 2);
  layout.tensor("token_embd.weight", "model.embed_tokens.weight");
  map_norm(layout, "output_norm", "model.norm");
  if (layout.boolean("tie_word_embeddings", false) || !layout.has("lm_head.weight"))
    layout.ignore("lm_head.");
  else
    layout.tensor("output.weight", "lm_head.weight");
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    map_norm(layout, to + "attn_norm", from + "input_layernorm");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    map_norm(layout, to + "ffn_norm", from + "post_attention_layernorm");
    map_projection(layout, to + "ffn_up", from + "mlp.up_proj");
    map_projection(layout, to + "ffn_down", from + "mlp.down_proj");
  }
}

}  // namespace neutrino::weights
