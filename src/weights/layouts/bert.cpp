// BERT and ModernBERT checkpoints as encoders and rerankers.
#include <fmt/format.h>

#include "base/error.h"
#include "weights/layouts/layout.h"
#include "weights/layouts/pooling.h"

namespace neutrino::weights {
namespace {

// weight and bias of one linear layer or norm
void pair(Layout& layout, const std::string& name, const std::string& source) {
  layout.tensor(name + ".weight", source + ".weight");
  layout.tensor(name + ".bias", source + ".bias");
}

void set_sizes(Layout& layout) {
  layout.set("block_count", layout.integer("num_hidden_layers"));
  layout.set("context_length", layout.integer("max_position_embeddings"));
  layout.set("embedding_length", layout.integer("hidden_size"));
  layout.set("feed_forward_length", layout.integer("intermediate_size"));
  layout.set("attention.head_count", layout.integer("num_attention_heads"));
  layout.set("attention.causal", false);
}

void map_bert_layer(Layout& layout, const std::string& prefix, int64_t index) {
  const std::string name = fmt::format("blk.{}.", index);
  const std::string source = fmt::format("{}encoder.layer.{}.", prefix, index);
  pair(layout, name + "attn_q", source + "attention.self.query");
  pair(layout, name + "attn_k", source + "attention.self.key");
  pair(layout, name + "attn_v", source + "attention.self.value");
  pair(layout, name + "attn_output", source + "attention.output.dense");
  pair(layout, name + "attn_output_norm", source + "attention.output.LayerNorm");
  pair(layout, name + "ffn_up", source + "intermediate.dense");
  pair(layout, name + "ffn_down", source + "output.dense");
  pair(layout, name + "layer_output_norm", source + "output.LayerNorm");
}

void map_modern_bert_layer(Layout& layout, const std::string& prefix, int64_t index) {
  const std::string name = fmt::format("blk.{}.", index);
  const std::string source = fmt::format("{}layers.{}.", prefix, index);
  if (index > 0) layout.tensor(name + "attn_norm.weight", source + "attn_norm.weight");
  layout.tensor(name + "attn_qkv.weight", source + "attn.Wqkv.weight");
  layout.tensor(name + "attn_output.weight", source + "attn.Wo.weight");
  layout.tensor(name + "ffn_norm.weight", source + "mlp_norm.weight");
  layout.tensor(name + "ffn_up.weight", source + "mlp.Wi.weight");
  layout.tensor(name + "ffn_down.weight", source + "mlp.Wo.weight");
}

void require(const Layout& layout, std::string_view field, std::string_view value) {
  const std::string got = layout.text(field, value);
  if (got != value)
    throw make_error(ErrorCode::unimplemented, "config.json: {} must be \"{}\", got \"{:.64}\"", field, value,
                     got);
}

}  // namespace

void map_bert(Layout& layout) {
  layout.set_architecture("bert");
  require(layout, "hidden_act", "gelu");
  require(layout, "position_embedding_type", "absolute");
  set_sizes(layout);
  layout.set("attention.layer_norm_epsilon", layout.number("layer_norm_eps", 1e-12));
  const std::string prefix = layout.has("bert.embeddings.word_embeddings.weight") ? "bert." : "";
  layout.tensor("token_embd.weight", prefix + "embeddings.word_embeddings.weight");
  layout.tensor("position_embd.weight", prefix + "embeddings.position_embeddings.weight");
  layout.tensor("token_types.weight", prefix + "embeddings.token_type_embeddings.weight");
  pair(layout, "token_embd_norm", prefix + "embeddings.LayerNorm");
  for (int64_t i = 0; i < layout.integer("num_hidden_layers"); ++i) map_bert_layer(layout, prefix, i);
  layout.ignore(prefix + "embeddings.position_ids");
  if (layout.has("classifier.weight")) {
    layout.set("pooling_type", kPoolingRank);
    pair(layout, "cls", prefix + "pooler.dense");
    pair(layout, "cls.output", "classifier");
  } else {
    set_pooling(layout);
    layout.ignore(prefix + "pooler.");  // trained for next-sentence prediction; embeddings do not use it
    layout.ignore("cls.");              // the masked language model's head
  }
}

void map_modern_bert(Layout& layout) {
  layout.set_architecture("modern-bert");
  for (const char* field : {"norm_bias", "mlp_bias", "attention_bias", "classifier_bias"})
    if (layout.boolean(field, false))
      throw make_error(ErrorCode::unimplemented, "config.json: {} must be false, got true", field);
  set_sizes(layout);
  layout.set("attention.layer_norm_epsilon", layout.number("norm_eps", 1e-5));
  layout.set("attention.sliding_window", layout.integer("local_attention", 128));
  layout.set("attention.sliding_window_pattern", layout.integer("global_attn_every_n_layers", 3));
  const auto theta = [&](std::string_view type, std::string_view field, double fallback) {
    const json::object rope = layout.rope(type);
    const json::value* value = rope.if_contains("rope_theta");
    return value && value->is_number() ? value->to_number<double>() : layout.number(field, fallback);
  };
  layout.set("rope.freq_base", theta("full_attention", "global_rope_theta", 160000));
  layout.set("rope.freq_base_swa", theta("sliding_attention", "local_rope_theta", 10000));
  layout.set("hidden_activation", layout.text("hidden_activation", "gelu"));
  const std::string prefix = layout.has("model.embeddings.tok_embeddings.weight") ? "model." : "";
  layout.tensor("token_embd.weight", prefix + "embeddings.tok_embeddings.weight");
  layout.tensor("token_embd_norm.weight", prefix + "embeddings.norm.weight");
  for (int64_t i = 0; i < layout.integer("num_hidden_layers"); ++i) map_modern_bert_layer(layout, prefix, i);
  layout.tensor("output_norm.weight", prefix + "final_norm.weight");
  if (layout.has("classifier.weight")) {
    layout.set("pooling_type", kPoolingRank);
    layout.set("classifier_pooling", layout.text("classifier_pooling", "cls"));
    layout.tensor("cls.weight", "head.dense.weight");
    layout.tensor("cls.norm.weight", "head.norm.weight");
    pair(layout, "cls.output", "classifier");
  } else {
    set_pooling(layout);
    layout.ignore("head.");  // the masked language model's
    layout.ignore("decoder.");
  }
}

}  // namespace neutrino::weights
