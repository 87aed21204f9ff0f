// DeepSeek V2, V2-Lite, V3 and R1, Kimi K2. GGUF keeps kv_b in two, ready for the absorbed form of latent attention: attn_k_b,
// of each head the transpose of its rows for k_nope, and attn_v_b; in its keys the attention has one key/value head.
#include "base/error.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

constexpr int64_t kPredictionLayersMax = 16;

struct Dimensions {
  int64_t heads, q_lora_rank, kv_lora_rank, nope, rope, value;
};

int64_t size_field(const Layout& layout, std::string_view name, int64_t low) {
  const int64_t size = layout.integer(name);
  if (size < low || size > (1 << 16))
    throw make_error(ErrorCode::invalid_argument, "config.json: {} must be {} to {}, got {}", name, low,
                     1 << 16, size);
  return size;
}

Dimensions read_dimensions(const Layout& layout) {
  return {.heads = size_field(layout, "num_attention_heads", 1),
          .q_lora_rank = layout.integer("q_lora_rank", 0),
          .kv_lora_rank = size_field(layout, "kv_lora_rank", 1),
          .nope = size_field(layout, "qk_nope_head_dim", 1),
          .rope = size_field(layout, "qk_rope_head_dim", 2),
          .value = size_field(layout, "v_head_dim", 1)};
}

void set_attention(Layout& layout, const Dimensions& dims) {
  layout.set("attention.head_count_kv", int64_t{1});
  layout.set("attention.key_length", dims.kv_lora_rank + dims.rope);
  layout.set("attention.value_length", dims.kv_lora_rank);
  layout.set("attention.key_length_mla", dims.nope + dims.rope);
  layout.set("attention.value_length_mla", dims.value);
  layout.set("attention.kv_lora_rank", dims.kv_lora_rank);
  if (dims.q_lora_rank > 0) layout.set("attention.q_lora_rank", dims.q_lora_rank);
}

// `count` groups of rows, of which the last `rope` of `size` go from halves to pairs where the checkpoint has halves.
Transform rotary_rows(const Layout& layout, int64_t count, int64_t size, int64_t rope) {
  if (layout.boolean("rope_interleave", true)) return {};
  std::vector<int64_t> rows = row_range(0, count * size);
  for (int64_t group = 0; group < count; ++group)
    for (int64_t i = 0; i < rope; ++i)
      rows[static_cast<size_t>((group + 1) * size - rope + i)] =
          (group + 1) * size - rope + i / 2 + i % 2 * (rope / 2);
  return {.rows = std::move(rows)};
}

// Of each head's rows [k_nope | v] of kv_b, `count` from `first`.
std::vector<int64_t> head_rows(const Dimensions& dims, int64_t first, int64_t count) {
  std::vector<int64_t> rows;
  for (int64_t head = 0; head < dims.heads; ++head)
    for (const int64_t row : row_range(head * (dims.nope + dims.value) + first, count)) rows.push_back(row);
  return rows;
}

void map_latent_attention(Layout& layout, const std::string& to, const std::string& from,
                          const Dimensions& dims) {
  const Transform q = rotary_rows(layout, dims.heads, dims.nope + dims.rope, dims.rope);
  if (dims.q_lora_rank > 0) {
    layout.tensor(to + "attn_q_a.weight", from + "q_a_proj.weight");
    layout.tensor(to + "attn_q_a_norm.weight", from + "q_a_layernorm.weight");
    layout.tensor(to + "attn_q_b.weight", from + "q_b_proj.weight", q);
  } else {
    layout.tensor(to + "attn_q.weight", from + "q_proj.weight", q);
  }
  layout.tensor(to + "attn_kv_a_mqa.weight", from + "kv_a_proj_with_mqa.weight",
                rotary_rows(layout, 1, dims.kv_lora_rank + dims.rope, dims.rope));
  layout.tensor(to + "attn_kv_a_norm.weight", from + "kv_a_layernorm.weight");
  layout.tensor(to + "attn_k_b.weight", from + "kv_b_proj.weight",
                {.rows = head_rows(dims, 0, dims.nope),
                 .shape = {dims.heads, dims.nope, dims.kv_lora_rank},
                 .transpose_last = true});
  layout.tensor(
      to + "attn_v_b.weight", from + "kv_b_proj.weight",
      {.rows = head_rows(dims, dims.nope, dims.value), .shape = {dims.heads, dims.value, dims.kv_lora_rank}});
  layout.tensor(to + "attn_output.weight", from + "o_proj.weight");
}

ExpertKeys common_experts(const Layout& layout) {
  return {.count = layout.integer("n_routed_experts"),
          .used = layout.integer("num_experts_per_tok"),
          .intermediate = layout.integer("moe_intermediate_size"),
          .shared = layout.integer("n_shared_experts", 0),
          .scale = layout.number("routed_scaling_factor", 1)};
}

// Softmax over all experts; groups count only for "group_limited_greedy".
ExpertKeys v2_experts(const Layout& layout) {
  ExpertKeys keys = common_experts(layout);
  keys.gating = 1;
  const std::string method = layout.text("topk_method", "greedy");
  if (method == "group_limited_greedy") {
    keys.groups = layout.integer("n_group");
    keys.groups_used = layout.integer("topk_group");
  } else if (method != "greedy") {
    throw make_error(ErrorCode::unimplemented,
                     "config.json: topk_method \"{:.64}\" is not known for DeepSeek V2", method);
  }
  if (layout.boolean("norm_topk_prob", false))
    throw Error(ErrorCode::unimplemented, "config.json: norm_topk_prob is not known for DeepSeek V2");
  return keys;
}

ExpertKeys v3_experts(const Layout& layout) {
  ExpertKeys keys = common_experts(layout);
  keys.gating = 2;
  if (layout.text("scoring_func", "sigmoid") != "sigmoid" ||
      layout.text("topk_method", "noaux_tc") != "noaux_tc")
    throw Error(ErrorCode::unimplemented,
                "config.json: scoring_func must be sigmoid and topk_method noaux_tc for DeepSeek V3");
  keys.groups = layout.integer("n_group", 8);
  keys.groups_used = layout.integer("topk_group", 4);
  keys.normalize = layout.boolean("norm_topk_prob", true);
  return keys;
}

void map_deepseek(Layout& layout, const ExpertKeys& experts) {
  const Dimensions dims = read_dimensions(layout);
  layout.set_architecture("deepseek2");
  layout.set_common();
  set_attention(layout, dims);
  layout.set_rope(dims.rope);
  require_activation(layout, "hidden_act", {"silu", "swish"});
  set_experts(layout, experts);
  layout.set("leading_dense_block_count", layout.integer("first_k_dense_replace", 0));
  if (layout.boolean("attention_bias", false) || layout.boolean("mlp_bias", false))
    throw Error(ErrorCode::unimplemented,
                "config.json: attention_bias and mlp_bias are not known for DeepSeek");
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
    map_latent_attention(layout, to, from + "self_attn.", dims);
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_mixture(layout, to, from + "mlp.", experts);
  }
  ignore_prediction_layers(layout, kPredictionLayersMax);
}

}  // namespace

void map_deepseek_v2(Layout& layout) { map_deepseek(layout, v2_experts(layout)); }
void map_deepseek_v3(Layout& layout) { map_deepseek(layout, v3_experts(layout)); }

}  // namespace neutrino::weights
