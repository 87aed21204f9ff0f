#include "weights/layouts/moe.h"

#include "base/error.h"
#include "base/limits.h"

namespace neutrino::weights {

void map_experts(Layout& layout, const std::string& to, const std::string& from, int64_t experts,
                 int64_t intermediate) {
  if (layout.has(from + "experts.gate_up_proj")) {
    layout.tensor(to + "ffn_gate_exps.weight", from + "experts.gate_up_proj",
                  {.rows = row_range(0, intermediate)});
    layout.tensor(to + "ffn_up_exps.weight", from + "experts.gate_up_proj",
                  {.rows = row_range(intermediate, intermediate)});
    layout.tensor(to + "ffn_down_exps.weight", from + "experts.down_proj");
    return;
  }
  for (const std::string part : {"gate", "up", "down"}) {
    std::vector<std::string> sources;
    for (int64_t expert = 0; expert < experts; ++expert)
      sources.push_back(fmt::format("{}experts.{}.{}_proj.weight", from, expert, part));
    layout.stack(fmt::format("{}ffn_{}_exps.weight", to, part), std::move(sources));
  }
}

void set_experts(Layout& layout, const ExpertKeys& keys) {
  if (keys.count < 1 || keys.count > limits::kExperts)
    throw make_error(ErrorCode::invalid_argument, "config.json: the number of experts must be 1-{}, got {}",
                     limits::kExperts, keys.count);
  layout.set("expert_count", keys.count);
  layout.set("expert_used_count", keys.used);
  layout.set("expert_feed_forward_length", keys.intermediate);
  layout.set("expert_weights_norm", keys.normalize);
  const auto set_size = [&](std::string_view key, int64_t value) {
    if (value != 0) layout.set(key, value);
  };
  set_size("expert_shared_count", keys.shared);
  set_size("expert_group_count", keys.groups);
  set_size("expert_group_used_count", keys.groups_used);
  set_size("expert_gating_func", keys.gating);
  if (keys.scale != 0) layout.set("expert_weights_scale", keys.scale);
}

void map_mixture(Layout& layout, const std::string& to, const std::string& from, const ExpertKeys& keys) {
  if (!layout.has(from + "gate.weight")) return map_gated_mlp(layout, to, from);
  layout.tensor(to + "ffn_gate_inp.weight", from + "gate.weight");
  for (const std::string name : {"gate.e_score_correction_bias", "moe_statics.e_score_correction_bias"})
    if (layout.has(from + name))
      layout.tensor(to + "exp_probs_b.bias", from + name,
                    {.shape = {keys.count}});  // ERNIE's is (1, experts)
  map_experts(layout, to, from, keys.count, keys.intermediate);
  if (layout.has(from + "shared_experts.up_proj.weight"))
    map_gated_mlp(layout, to, from + "shared_experts.", "_shexp");
}

void ignore_prediction_layers(Layout& layout, int64_t count) {
  const int64_t first = layout.layers();
  for (int64_t i = first; i < first + count; ++i) layout.ignore(fmt::format("model.layers.{}.", i));
}

}  // namespace neutrino::weights
