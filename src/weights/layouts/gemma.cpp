// Gemma 2 and 3, the text models, and EmbeddingGemma. The authors' RMSNorm multiplies with 1 + weight; the canonical form holds the sum.
#include <cmath>

#include "weights/layouts/decoder.h"
#include "weights/layouts/pooling.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

const Transform kAddOne{.map = Transform::Map::add_one};

// config.json of Gemma 3's larger models leaves out what transformers has as default.
struct Defaults {
  int64_t heads, kv_heads, head_dim, context, scalar;
};
constexpr Defaults kGemma2{8, 4, 256, 8192, 256};
constexpr Defaults kGemma3{8, 4, 256, 131072, 256};

void set_sizes(Layout& layout, const Defaults& defaults) {
  const int64_t head_dim = layout.integer("head_dim", defaults.head_dim);
  layout.set("block_count", layout.layers());
  layout.set("embedding_length", layout.integer("hidden_size"));
  layout.set("feed_forward_length", layout.integer("intermediate_size"));
  layout.set("context_length", layout.integer("max_position_embeddings", defaults.context));
  if (layout.config().contains("vocab_size")) layout.set("vocab_size", layout.integer("vocab_size"));
  layout.set("attention.head_count", layout.integer("num_attention_heads", defaults.heads));
  layout.set("attention.head_count_kv", layout.integer("num_key_value_heads", defaults.kv_heads));
  layout.set("attention.key_length", head_dim);
  layout.set("attention.value_length", head_dim);
  layout.set("attention.layer_norm_rms_epsilon", layout.number("rms_norm_eps", 1e-6));
  const double scalar = layout.number("query_pre_attn_scalar", static_cast<double>(defaults.scalar));
  if (!(scalar > 0))
    throw refuse("config_field", "config.json: query_pre_attn_scalar must be positive, got {}", scalar);
  layout.set("attention.scale", 1 / std::sqrt(scalar));
  layout.set_rope(head_dim);
}

// In the canonical form the head is tied.
void map_tensors(Layout& layout) {
  layout.tensor("token_embd.weight", "model.embed_tokens.weight");
  layout.tensor("output_norm.weight", "model.norm.weight", kAddOne);
  if (layout.boolean("tie_word_embeddings", true) || !layout.has("lm_head.weight"))
    layout.ignore("lm_head.");
  else
    layout.tensor("output.weight", "lm_head.weight");
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight", kAddOne);
    for (const std::string part : {"q", "k", "v"})
      map_projection(layout, to + "attn_" + part, from + "self_attn." + part + "_proj");
    map_projection(layout, to + "attn_output", from + "self_attn.o_proj");
    for (const std::string part : {"q", "k"})
      if (layout.has(from + "self_attn." + part + "_norm.weight"))
        layout.tensor(to + "attn_" + part + "_norm.weight", from + "self_attn." + part + "_norm.weight",
                      kAddOne);
    layout.tensor(to + "post_attention_norm.weight", from + "post_attention_layernorm.weight", kAddOne);
    layout.tensor(to + "ffn_norm.weight", from + "pre_feedforward_layernorm.weight", kAddOne);
    map_gated_mlp(layout, to, from + "mlp.");
    layout.tensor(to + "post_ffw_norm.weight", from + "post_feedforward_layernorm.weight", kAddOne);
  }
}

bool slides_gemma2(const Layout&, int64_t layer) { return layer % 2 == 0; }

bool slides_gemma3(const Layout& layout, int64_t layer) {
  const int64_t period = layout.integer("sliding_window_pattern", 6);
  return period < 1 || (layer + 1) % period != 0;
}

// A cap of 0 would be read as none; a null field means none.
void set_cap(Layout& layout, std::string_view key, std::string_view field, double absent) {
  const bool mentioned = layout.config().contains(field);
  layout.set(key, layout.number(field, mentioned ? 0 : absent));
}

}  // namespace

void map_gemma2(Layout& layout) {
  layout.set_architecture("gemma2");
  require_activation(layout, "hidden_activation", {"gelu_pytorch_tanh"});
  set_sizes(layout, kGemma2);
  set_cap(layout, "attn_logit_softcapping", "attn_logit_softcapping", 50);
  set_cap(layout, "final_logit_softcapping", "final_logit_softcapping", 30);
  set_windows(layout, layout.integer("sliding_window", 4096), slides_gemma2);
  map_tensors(layout);
}

void map_gemma3(Layout& layout) {
  const bool encoder = layout.boolean("use_bidirectional_attention", false);
  layout.set_architecture(encoder ? "gemma-embedding" : "gemma3");
  require_activation(layout, "hidden_activation", {"gelu_pytorch_tanh"});
  set_sizes(layout, kGemma3);
  set_rope_base(layout, 1e6);
  set_cap(layout, "attn_logit_softcapping", "attn_logit_softcapping", 0);
  set_cap(layout, "final_logit_softcapping", "final_logit_softcapping", 0);
  set_windows(layout, layout.integer("sliding_window", 4096), slides_gemma3);
  const bool says =
      layout.config().contains("rope_parameters") || layout.config().contains("rope_local_base_freq");
  layout.set("rope.freq_base_swa", says ? rope_base(layout, "sliding_attention") : 10000.0);
  map_tensors(layout);
  if (!encoder) return;
  set_pooling(layout);
  for (const std::string module : {"2", "3"})
    if (layout.has(module + "_Dense.linear.weight"))
      layout.tensor("dense_" + module + ".weight", module + "_Dense.linear.weight");
}

}  // namespace neutrino::weights
