// Llama 2 and 3, Mistral, SmolLM2. GGUF pairs adjacent rows for the rotation where Hugging Face pairs halves, so the rows of
// q and k are put in another order.
#include "weights/layouts/layout.h"

namespace neutrino::weights {
namespace {

void map_attention(Layout& layout, const std::string& to, const std::string& from) {
  const int64_t head_dim = layout.head_dim(), heads = layout.integer("num_attention_heads");
  const Transform q{.rows = rope_pairs(heads, head_dim)};
  const Transform k{.rows = rope_pairs(layout.integer("num_key_value_heads", heads), head_dim)};
  const auto projection = [&](const char* name, const char* source, const Transform& transform) {
    layout.tensor(to + name + ".weight", from + source + ".weight", transform);
    if (layout.has(from + source + ".bias"))
      layout.tensor(to + name + ".bias", from + source + ".bias", transform);
  };
  projection("attn_q", "self_attn.q_proj", q);
  projection("attn_k", "self_attn.k_proj", k);
  projection("attn_v", "self_attn.v_proj", {});
  projection("attn_output", "self_attn.o_proj", {});
}

void map_mlp(Layout& layout, const std::string& to, const std::string& from) {
  for (const char* name : {"gate", "up", "down"}) {
    const std::string source = from + "mlp." + name + "_proj", target = to + "ffn_" + name;
    layout.tensor(target + ".weight", source + ".weight");
    if (layout.has(source + ".bias")) layout.tensor(target + ".bias", source + ".bias");
  }
}

}  // namespace

void map_llama(Layout& layout) {
  layout.set_architecture("llama");
  layout.set_common();
  layout.set_rope();
  layout.tensor("token_embd.weight", "model.embed_tokens.weight");
  layout.tensor("output_norm.weight", "model.norm.weight");
  if (layout.boolean("tie_word_embeddings", false) || !layout.has("lm_head.weight"))
    layout.ignore("lm_head.");
  else
    layout.tensor("output.weight", "lm_head.weight");
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = "blk." + std::to_string(i) + ".", from = "model.layers." + std::to_string(i) + ".";
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_mlp(layout, to, from);
  }
}

}  // namespace neutrino::weights
