// Qwen2-MoE (Qwen1.5-MoE, Qwen2-57B-A14B) and Qwen3-MoE. GGUF pairs the rotary halves as Hugging Face does.
#include "base/error.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

// One SwiGLU that every row goes through, times sigmoid(shared_expert_gate x).
void map_shared_expert(Layout& layout, const std::string& to, const std::string& from) {
  if (!layout.has(from + "shared_expert_gate.weight")) return;
  map_gated_mlp(layout, to, from + "shared_expert.", "_shexp");
  layout.tensor(to + "ffn_gate_inp_shexp.weight", from + "shared_expert_gate.weight",
                {.shape = {layout.integer("hidden_size")}});
}

void map_qwen_moe(Layout& layout, std::string_view architecture) {
  layout.set_architecture(architecture);
  layout.set_common();
  layout.set_rope();
  require_activation(layout, "hidden_act", {"silu", "swish"});
  if (layout.boolean("use_sliding_window", false))
    throw Error(ErrorCode::unimplemented,
                "config.json: use_sliding_window is not supported for Qwen's mixtures");
  const int64_t experts = layout.integer("num_experts", layout.integer("num_local_experts", 0));
  const int64_t intermediate = layout.integer("moe_intermediate_size");
  set_experts(layout, {.count = experts,
                       .used = layout.integer("num_experts_per_tok"),
                       .intermediate = intermediate,
                       .normalize = layout.boolean("norm_topk_prob", false)});
  if (layout.integer("shared_expert_intermediate_size", 0) > 0)
    layout.set("expert_shared_feed_forward_length", layout.integer("shared_expert_intermediate_size"));
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    if (!layout.has(from + "mlp.gate.weight")) {  // mlp_only_layers, decoder_sparse_step
      map_gated_mlp(layout, to, from + "mlp.");
      continue;
    }
    layout.tensor(to + "ffn_gate_inp.weight", from + "mlp.gate.weight");
    map_experts(layout, to, from + "mlp.", experts, intermediate);
    map_shared_expert(layout, to, from + "mlp.");
  }
}

}  // namespace

void map_qwen2moe(Layout& layout) { map_qwen_moe(layout, "qwen2moe"); }
void map_qwen3moe(Layout& layout) { map_qwen_moe(layout, "qwen3moe"); }

}  // namespace neutrino::weights
