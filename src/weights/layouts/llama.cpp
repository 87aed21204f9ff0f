// Llama 2 and 3, Mistral, Mixtral, SmolLM2, SmolLM3. GGUF pairs adjacent rows for the rotation where Hugging Face pairs
// halves, so the rows of q and k are put in another order.
#include "base/limits.h"
#include "weights/layouts/decoder.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

// The experts of Mixtral: one matrix each (w1 gate, w3 up, w2 down), or all in one tensor with gate above up.
void map_experts(Layout& layout, const std::string& to, const std::string& layer) {
  const int64_t experts = layout.integer("num_local_experts"), rows = layout.integer("intermediate_size");
  if (experts > limits::kExperts)
    throw refuse("config_size", "config.json: num_local_experts must be 1-{}, got {}", limits::kExperts,
                 experts);
  const std::string stacked = layer + "mlp.experts.";
  if (layout.has(stacked + "gate_up_proj")) {
    layout.tensor(to + "ffn_gate_inp.weight", layer + "mlp.gate.weight");
    layout.tensor(to + "ffn_gate_exps.weight", stacked + "gate_up_proj", {.rows = row_range(0, rows)});
    layout.tensor(to + "ffn_up_exps.weight", stacked + "gate_up_proj", {.rows = row_range(rows, rows)});
    layout.tensor(to + "ffn_down_exps.weight", stacked + "down_proj");
    return;
  }
  const std::string block = layer + "block_sparse_moe.";
  layout.tensor(to + "ffn_gate_inp.weight", block + "gate.weight");
  for (const auto& [target, source] :
       {std::pair("gate", "w1"), std::pair("up", "w3"), std::pair("down", "w2")}) {
    std::vector<std::string> sources;
    for (int64_t expert = 0; expert < experts; ++expert)
      sources.push_back(fmt::format("{}experts.{}.{}.weight", block, expert, source));
    layout.stack(fmt::format("{}ffn_{}_exps.weight", to, target), std::move(sources));
  }
}

void map_decoder(Layout& layout, std::string_view architecture, double rope_base) {
  layout.set_architecture(architecture);
  require_activation(layout, "hidden_act", {"silu", "swish"});
  layout.set_common();
  layout.set_rope();
  set_rope_base(layout, rope_base);
  map_ends(layout);
  const bool mixture = layout.integer("num_local_experts", 0) > 0;
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::paired);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    if (mixture)
      map_experts(layout, to, from);
    else
      map_gated_mlp(layout, to, from + "mlp.");
  }
}

// One flag a layer: does it rotate?
std::vector<bool> rope_layers(const Layout& layout) {
  const int64_t interval = layout.integer("no_rope_layer_interval", 4);
  if (interval < 1)
    throw refuse("config_field", "config.json: no_rope_layer_interval must be at least 1, got {}", interval);
  std::vector<bool> rotates;
  for (int64_t i = 0; i < layout.layers(); ++i) rotates.push_back((i + 1) % interval != 0);
  const json::value* list =
      layout.config().if_contains("no_rope_layers");  // which says 1 where a layer rotates
  if (!list || list->is_null()) return rotates;
  if (!list->is_array() || std::ssize(list->get_array()) < layout.layers())
    throw refuse("config_field", "config.json: no_rope_layers must be a list of {} values", layout.layers());
  for (int64_t i = 0; i < layout.layers(); ++i) rotates[i] = list->get_array()[i] != json::value(0);
  return rotates;
}

}  // namespace

void map_llama(Layout& layout) { map_decoder(layout, "llama", 10000); }

// Where config.json does not mention a window, transformers takes 4096 for Mistral, and none for Mixtral.
void map_mistral(Layout& layout) {
  map_decoder(layout, "llama", 10000);
  const bool mentioned = layout.config().contains("sliding_window");
  set_windows(layout, layout.integer("sliding_window", mentioned ? 0 : 4096));
}

void map_mixtral(Layout& layout) {
  map_decoder(layout, "llama", 1e6);
  layout.set("expert_count", layout.integer("num_local_experts"));
  layout.set("expert_used_count", layout.integer("num_experts_per_tok"));
  set_windows(layout, layout.integer("sliding_window", 0));
}

void map_smollm3(Layout& layout) {
  map_decoder(layout, "smollm3", 2e6);
  layout.set("attention.rope_pattern", rope_layers(layout));
  if (layout.boolean("use_sliding_window", false)) set_windows(layout, layout.integer("sliding_window", 0));
}

}  // namespace neutrino::weights
