// Nemotron-H (Nemotron Nano v2) and its mixture-of-experts form (Nemotron 3). A layer is one mixer; which one, a list or a
// pattern says.
#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

enum class Kind : uint8_t { mamba2, attention, mlp, mixture };

struct KindName {
  std::string_view name;
  Kind kind;
};

// transformers' words now and before, and the letters of hybrid_override_pattern.
constexpr KindName kKinds[] = {
    {"linear_attention", Kind::mamba2},
    {"mamba", Kind::mamba2},
    {"M", Kind::mamba2},
    {"full_attention", Kind::attention},
    {"attention", Kind::attention},
    {"*", Kind::attention},
    {"mlp", Kind::mlp},
    {"-", Kind::mlp},
    {"moe", Kind::mixture},
    {"E", Kind::mixture},
};

Kind kind_of(std::string_view name, size_t layer) {
  const auto found = std::ranges::find(kKinds, name, &KindName::name);
  if (found == std::end(kKinds))
    throw make_error(ErrorCode::invalid_argument, "config.json: layer {} is of unknown kind \"{:.40}\"",
                     layer, name);
  return found->kind;
}

std::vector<Kind> read_kinds(const Layout& layout) {
  std::vector<Kind> kinds;
  for (const std::string_view field : {"layers_block_type", "layer_types"}) {
    const json::value* list = layout.config().if_contains(field);
    if (!kinds.empty() || list == nullptr || !list->is_array()) continue;
    for (const json::value& name : list->get_array())
      kinds.push_back(kind_of(name.is_string() ? std::string_view(name.get_string()) : "", kinds.size()));
  }
  if (kinds.empty())
    for (const char letter : layout.text("hybrid_override_pattern", ""))
      kinds.push_back(kind_of({&letter, 1}, kinds.size()));
  if (kinds.empty() || std::ssize(kinds) > limits::kLayers)
    throw make_error(
        ErrorCode::invalid_argument,
        "config.json: layers_block_type or hybrid_override_pattern must name 1-{} layers, got {}",
        limits::kLayers, kinds.size());
  return kinds;
}

bool has_mixture(const std::vector<Kind>& kinds) { return std::ranges::count(kinds, Kind::mixture) > 0; }

void set_sizes(Layout& layout, const std::vector<Kind>& kinds) {
  std::vector<int64_t> kv_heads, intermediate;
  for (const Kind kind : kinds) {
    kv_heads.push_back(kind == Kind::attention ? layout.integer("num_key_value_heads") : 0);
    intermediate.push_back(kind == Kind::mlp       ? layout.integer("intermediate_size")
                           : kind == Kind::mixture ? layout.integer("moe_intermediate_size")
                                                   : 0);
  }
  layout.set("block_count", static_cast<int64_t>(kinds.size()));
  layout.set("embedding_length", layout.integer("hidden_size"));
  layout.set("vocab_size", layout.integer("vocab_size"));
  layout.set("context_length", layout.integer("max_position_embeddings"));
  layout.set("feed_forward_length", intermediate);
  layout.set("attention.head_count", layout.integer("num_attention_heads"));
  layout.set("attention.head_count_kv", kv_heads);
  const int64_t head_dim = layout.integer("head_dim", layout.integer("attention_head_dim", 128));
  layout.set("attention.key_length", head_dim);
  layout.set("attention.value_length", head_dim);
  const double epsilon = layout.number("layer_norm_epsilon", layout.number("rms_norm_eps", 1e-5));
  layout.set("attention.layer_norm_rms_epsilon", epsilon);
  layout.set("attention.layer_norm_epsilon", epsilon);
}

void set_mamba2(Layout& layout) {
  const int64_t heads = layout.integer("mamba_num_heads");
  layout.set("ssm.conv_kernel", layout.integer("conv_kernel", 4));
  layout.set("ssm.state_size", layout.integer("ssm_state_size", 128));
  layout.set("ssm.group_count", layout.integer("n_groups", 8));
  layout.set("ssm.time_step_rank", heads);
  layout.set("ssm.inner_size", heads * layout.integer("mamba_head_dim"));
  // transformers clamps the time step from below by it, llama.cpp and GGUF do not know it.
  layout.set("ssm.time_step_min", layout.number("time_step_min", 0.001));
}

void set_mixture(Layout& layout) {
  set_experts(layout, {.count = layout.integer("n_routed_experts"),
                       .used = layout.integer("num_experts_per_tok"),
                       .intermediate = layout.integer("moe_intermediate_size"),
                       .shared = layout.integer("n_shared_experts", 1),
                       .groups = layout.integer("n_group", 1),
                       .groups_used = layout.integer("topk_group", 1),
                       .gating = 2,
                       .normalize = layout.boolean("norm_topk_prob", true),
                       .scale = layout.number("routed_scaling_factor", 1)});
  layout.set("expert_shared_feed_forward_length", layout.integer("moe_shared_expert_intermediate_size"));
  if (const int64_t latent = layout.integer("moe_latent_size", 0); latent > 0)
    layout.set("moe_latent_size", latent);
}

void map_mamba2(Layout& layout, const std::string& to, const std::string& from) {
  const int64_t heads = layout.integer("mamba_num_heads"), groups = layout.integer("n_groups", 8);
  const int64_t inner = heads * layout.integer("mamba_head_dim");
  if (groups < 1 || inner % groups != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "config.json: n_groups must divide mamba_num_heads * mamba_head_dim, got {} and {}",
                     groups, inner);
  layout.tensor(to + "ssm_in.weight", from + "in_proj.weight");
  layout.tensor(to + "ssm_conv1d.weight", from + "conv1d.weight");
  if (layout.has(from + "conv1d.bias")) layout.tensor(to + "ssm_conv1d.bias", from + "conv1d.bias");
  layout.tensor(to + "ssm_dt.bias", from + "dt_bias");
  layout.tensor(to + "ssm_a", from + "A_log", {.map = Transform::Map::negative_exp, .shape = {heads, 1}});
  layout.tensor(to + "ssm_d", from + "D", {.shape = {heads, 1}});
  layout.tensor(to + "ssm_norm.weight", from + "norm.weight", {.shape = {groups, inner / groups}});
  layout.tensor(to + "ssm_out.weight", from + "out_proj.weight");
}

void map_mlp(Layout& layout, const std::string& to, const std::string& from, const std::string& suffix = {}) {
  for (const std::string part : {"up", "down"})
    map_projection(layout, fmt::format("{}ffn_{}{}", to, part, suffix), fmt::format("{}{}_proj", from, part));
}

void map_experts_without_gate(Layout& layout, const std::string& to, const std::string& from) {
  for (const std::string part : {"up", "down"}) {
    const std::string name = fmt::format("{}ffn_{}_exps.weight", to, part);
    if (const std::string fused = fmt::format("{}experts.{}_proj", from, part); layout.has(fused)) {
      layout.tensor(name, fused);
      continue;
    }
    std::vector<std::string> sources;
    for (int64_t expert = 0; expert < layout.integer("n_routed_experts"); ++expert)
      sources.push_back(fmt::format("{}experts.{}.{}_proj.weight", from, expert, part));
    layout.stack(name, std::move(sources));
  }
}

void map_mixture_of(Layout& layout, const std::string& to, const std::string& from) {
  layout.tensor(to + "ffn_gate_inp.weight", from + "gate.weight");
  layout.tensor(to + "exp_probs_b.bias", from + "gate.e_score_correction_bias");
  map_experts_without_gate(layout, to, from);
  map_mlp(layout, to, from + "shared_experts.", "_shexp");
  if (!layout.has(from + "fc1_latent_proj.weight")) return;
  layout.tensor(to + "ffn_latent_down.weight", from + "fc1_latent_proj.weight");
  layout.tensor(to + "ffn_latent_up.weight", from + "fc2_latent_proj.weight");
}

void map_mixer(Layout& layout, Kind kind, const std::string& to, const std::string& from) {
  if (kind == Kind::mamba2) map_mamba2(layout, to, from);
  if (kind == Kind::attention) map_attention(layout, to, from, QkRows::as_they_stand);
  if (kind == Kind::mlp) map_mlp(layout, to, from);
  if (kind == Kind::mixture) map_mixture_of(layout, to, from);
}

void refuse_biases(const Layout& layout) {
  for (const std::string_view field : {"use_bias", "attention_bias", "mamba_proj_bias"})
    if (layout.boolean(field, false))
      throw make_error(ErrorCode::unimplemented, "config.json: {} is not supported for Nemotron-H", field);
  if (layout.config().contains("block_configs"))
    throw Error(ErrorCode::unimplemented, "config.json: block_configs (Nemotron 3 Puzzle) is not supported");
}

}  // namespace

void map_nemotron_h(Layout& layout) {
  const std::vector<Kind> kinds = read_kinds(layout);
  refuse_biases(layout);
  layout.set_architecture(has_mixture(kinds) ? "nemotron_h_moe" : "nemotron_h");
  set_sizes(layout, kinds);
  set_mamba2(layout);
  if (has_mixture(kinds)) set_mixture(layout);
  const std::string prefix = layout.has("backbone.embeddings.weight") ? "backbone." : "model.";
  layout.tensor("token_embd.weight", prefix + "embeddings.weight");
  layout.tensor("output_norm.weight", prefix + "norm_f.weight");
  if (layout.boolean("tie_word_embeddings", false) || !layout.has("lm_head.weight"))
    layout.ignore("lm_head.");
  else
    layout.tensor("output.weight", "lm_head.weight");
  layout.ignore("mtp.");
  for (size_t i = 0; i < kinds.size(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("{}layers.{}.", prefix, i);
    layout.tensor(to + "attn_norm.weight", from + "norm.weight");
    map_mixer(layout, kinds[i], to, from + "mixer.");
  }
}

}  // namespace neutrino::weights
