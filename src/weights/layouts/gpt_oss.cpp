// gpt-oss. On disk gate and up rows alternate (even: gate), and unquantised experts are transposed: (experts, in, out).
#include "base/error.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

constexpr double kSwigluAlpha = 1.702, kSwigluLimit = 7;  // of Function::swiglu_oai

// MXFP4 experts stand as (experts, out, in).
bool is_mxfp4(const Layout& layout) {
  const json::value* quantization = layout.config().if_contains("quantization_config");
  if (!quantization || !quantization->is_object()) return false;
  const json::value* method = quantization->get_object().if_contains("quant_method");
  return method && method->is_string() && method->get_string() == "mxfp4";
}

void map_gpt_oss_experts(Layout& layout, const std::string& to, const std::string& from,
                         int64_t intermediate) {
  const bool transpose = !is_mxfp4(layout);
  for (const int64_t odd : {0, 1}) {
    const std::string name = to + (odd == 0 ? "ffn_gate_exps" : "ffn_up_exps");
    const std::vector<int64_t> alternate = row_range(odd, intermediate, 2);
    layout.tensor(name + ".weight", from + "gate_up_proj", {.transpose = transpose, .rows = alternate});
    layout.tensor(name + ".bias", from + "gate_up_proj_bias", {.columns = alternate});
  }
  layout.tensor(to + "ffn_down_exps.weight", from + "down_proj", {.transpose = transpose});
  layout.tensor(to + "ffn_down_exps.bias", from + "down_proj_bias");
}

bool slides(const Layout&, int64_t layer) { return layer % 2 == 0; }

}  // namespace

void map_gpt_oss(Layout& layout) {
  layout.set_architecture("gpt-oss");
  layout.set_common();
  layout.set_rope();
  set_rope_base(layout, 150000);
  if (layout.number("swiglu_alpha", kSwigluAlpha) != kSwigluAlpha ||
      layout.number("swiglu_limit", kSwigluLimit) != kSwigluLimit)
    throw make_error(ErrorCode::unimplemented, "config.json: swiglu_alpha and swiglu_limit must be {} and {}",
                     kSwigluAlpha, kSwigluLimit);
  const int64_t intermediate = layout.integer("intermediate_size");
  set_experts(layout, {.count = layout.integer("num_local_experts", layout.integer("num_experts", 0)),
                       .used = layout.integer("num_experts_per_tok", layout.integer("experts_per_token", 4)),
                       .intermediate = intermediate});
  layout.set("expert_gating_func", int64_t{3});
  set_windows(layout, layout.integer("sliding_window", 128), slides);
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand);
    layout.tensor(to + "attn_sinks.weight", from + "self_attn.sinks");
    layout.tensor(to + "post_attention_norm.weight", from + "post_attention_layernorm.weight");
    map_projection(layout, to + "ffn_gate_inp", from + "mlp.router");
    map_gpt_oss_experts(layout, to, from + "mlp.experts.", intermediate);
  }
}

}  // namespace neutrino::weights
