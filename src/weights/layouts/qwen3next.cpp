// Qwen3-Next, and Qwen 3.5 (3.6) with its mixture-of-experts form.
//
// Norm weights are stored less one, except the delta net's own. Qwen3-Next's projections of q, k, v, z and of beta, alpha are
// interleaved by key head; GGUF takes the former apart and keeps the latter. Qwen 3.5 stores them apart, its value heads one
// key head's after the other's; GGUF deals them out: value head h belongs to key head h % key heads.
#include "base/error.h"
#include "weights/layouts/moe.h"

namespace neutrino::weights {
namespace {

struct Sizes {
  int64_t key_heads, value_heads, key_dim, value_dim;

  int64_t keys() const { return key_heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
  int64_t values_of_key_head() const { return values() / key_heads; }
};

int64_t size_field(const Layout& layout, std::string_view name, int64_t fallback) {
  constexpr int64_t kSizeMax = 1 << 12;
  const int64_t size = layout.integer(name, fallback);
  if (size < 1 || size > kSizeMax)
    throw make_error(ErrorCode::invalid_argument, "config.json: {} must be 1-{}, got {}", name, kSizeMax,
                     size);
  return size;
}

// The fallbacks are transformers' defaults.
Sizes read_sizes(const Layout& layout) {
  const Sizes sizes{.key_heads = size_field(layout, "linear_num_key_heads", 16),
                    .value_heads = size_field(layout, "linear_num_value_heads", 32),
                    .key_dim = size_field(layout, "linear_key_head_dim", 128),
                    .value_dim = size_field(layout, "linear_value_head_dim", 128)};
  if (sizes.value_heads % sizes.key_heads != 0)
    throw make_error(
        ErrorCode::invalid_argument,
        "config.json: linear_num_value_heads must be a multiple of linear_num_key_heads, got {} and {}",
        sizes.value_heads, sizes.key_heads);
  return sizes;
}

std::vector<int64_t> joined(std::vector<int64_t> rows, const std::vector<int64_t>& more) {
  rows.insert(rows.end(), more.begin(), more.end());
  return rows;
}

// Of each key head's `head_rows` rows those from `first` on, `count` of them.
std::vector<int64_t> rows_of_heads(const Sizes& sizes, int64_t head_rows, int64_t first, int64_t count) {
  std::vector<int64_t> rows;
  for (int64_t head = 0; head < sizes.key_heads; ++head)
    rows = joined(std::move(rows), row_range(head * head_rows + first, count));
  return rows;
}

// Rows of value heads, `dim` each, from one key head's after the other's to dealt out; `first` rows stand before them.
std::vector<int64_t> dealt_out(const Sizes& sizes, int64_t dim, int64_t first = 0) {
  const int64_t group = sizes.value_heads / sizes.key_heads;
  std::vector<int64_t> rows = row_range(0, first);
  for (int64_t head = 0; head < sizes.value_heads; ++head) {
    const int64_t source = head % sizes.key_heads * group + head / sizes.key_heads;
    rows = joined(std::move(rows), row_range(first + source * dim, dim));
  }
  return rows;
}

constexpr Transform kPlusOne{.map = Transform::Map::add_one};

// Qwen3-Next: q, k, v and z of a key head stand together, and beta and alpha, which stay so.
void map_interleaved_delta_net(Layout& layout, const std::string& to, const std::string& from,
                               const Sizes& sizes) {
  const int64_t key = sizes.key_dim, value = sizes.values_of_key_head(), head_rows = 2 * key + 2 * value;
  const auto rows = [&](int64_t first, int64_t count) {
    return rows_of_heads(sizes, head_rows, first, count);
  };
  layout.tensor(to + "attn_qkv.weight", from + "in_proj_qkvz.weight",
                {.rows = joined(joined(rows(0, key), rows(key, key)), rows(2 * key, value))});
  layout.tensor(to + "attn_gate.weight", from + "in_proj_qkvz.weight",
                {.rows = rows(2 * key + value, value)});
  layout.tensor(to + "ssm_ba.weight", from + "in_proj_ba.weight");
  layout.tensor(to + "ssm_conv1d.weight", from + "conv1d.weight");
  layout.tensor(to + "ssm_a", from + "A_log", {.map = Transform::Map::negative_exp});
  layout.tensor(to + "ssm_dt.bias", from + "dt_bias");
  layout.tensor(to + "ssm_out.weight", from + "out_proj.weight");
}

void map_delta_net(Layout& layout, const std::string& to, const std::string& from, const Sizes& sizes) {
  const std::vector<int64_t> channels = dealt_out(sizes, sizes.value_dim, 2 * sizes.keys());
  const std::vector<int64_t> values = dealt_out(sizes, sizes.value_dim), heads = dealt_out(sizes, 1);
  layout.tensor(to + "attn_qkv.weight", from + "in_proj_qkv.weight", {.rows = channels});
  layout.tensor(to + "attn_gate.weight", from + "in_proj_z.weight", {.rows = values});
  layout.tensor(to + "ssm_beta.weight", from + "in_proj_b.weight", {.rows = heads});
  layout.tensor(to + "ssm_alpha.weight", from + "in_proj_a.weight", {.rows = heads});
  layout.tensor(to + "ssm_conv1d.weight", from + "conv1d.weight", {.rows = channels});
  layout.tensor(to + "ssm_a", from + "A_log", {.rows = heads, .map = Transform::Map::negative_exp});
  layout.tensor(to + "ssm_dt.bias", from + "dt_bias", {.rows = heads});
  layout.tensor(to + "ssm_out.weight", from + "out_proj.weight", {.columns = values});
}

void map_feed_forward(Layout& layout, const std::string& to, const std::string& from) {
  if (!layout.has(from + "gate.weight")) return map_gated_mlp(layout, to, from);
  layout.tensor(to + "ffn_gate_inp.weight", from + "gate.weight");
  map_experts(layout, to, from, layout.integer("num_experts"), layout.integer("moe_intermediate_size"));
  map_gated_mlp(layout, to, from + "shared_expert.", "_shexp");
  layout.tensor(to + "ffn_gate_inp_shexp.weight", from + "shared_expert_gate.weight",
                {.shape = {layout.integer("hidden_size")}});
}

// The kind of each layer: of delta nets, or not.
std::vector<bool> recurrent_layers(const Layout& layout) {
  const int64_t layers = layout.layers(), interval = layout.integer("full_attention_interval", 4);
  if (interval < 1)
    throw make_error(ErrorCode::invalid_argument,
                     "config.json: full_attention_interval must be positive, got {}", interval);
  std::vector<bool> recurrent;
  for (int64_t i = 0; i < layers; ++i) recurrent.push_back((i + 1) % interval != 0);
  const json::value* types = layout.config().if_contains("layer_types");
  if (types == nullptr || types->is_null()) return recurrent;
  if (!types->is_array() || std::ssize(types->get_array()) != layers)
    throw make_error(ErrorCode::invalid_argument, "config.json: layer_types must be a list of {} words",
                     layers);
  for (size_t i = 0; i < recurrent.size(); ++i) {
    const json::value& type = types->get_array()[i];
    recurrent[i] = type.is_string() && type.get_string() == "linear_attention";
    if (!recurrent[i] && !(type.is_string() && type.get_string() == "full_attention"))
      throw make_error(
          ErrorCode::invalid_argument,
          "config.json: layer_types must be linear_attention or full_attention, layer {} has {:.80}", i,
          json::serialize(type));
  }
  return recurrent;
}

void set_delta_net(Layout& layout, const Sizes& sizes, const std::vector<bool>& recurrent) {
  layout.set("ssm.conv_kernel", layout.integer("linear_conv_kernel_dim", 4));
  layout.set("ssm.state_size", sizes.key_dim);
  layout.set("ssm.group_count", sizes.key_heads);
  layout.set("ssm.time_step_rank", sizes.value_heads);
  layout.set("ssm.inner_size", sizes.values());
  layout.set("full_attention_interval", layout.integer("full_attention_interval", 4));
  layout.set("attention.recurrent_layers", recurrent);
}

void set_keys(Layout& layout, std::string_view architecture) {
  layout.set_architecture(architecture);
  layout.set_common();
  if (layout.boolean("attention_bias", false))
    throw Error(ErrorCode::unimplemented, "config.json: attention_bias is not supported for Qwen3-Next");
  double rotary_share = 0.25;
  const json::object rope = layout.rope("full_attention");
  if (const json::value* share = rope.if_contains("partial_rotary_factor"); share && share->is_number())
    rotary_share = share->to_number<double>();
  layout.set_rope(static_cast<int64_t>(static_cast<double>(layout.head_dim()) * rotary_share));
  if (architecture != "qwen3next")  // for text, all axes are the same position
    layout.set("rope.dimension_sections", std::vector<int64_t>{11, 11, 10, 0});
  if (architecture == "qwen35") return;
  set_experts(layout, {.count = layout.integer("num_experts"),
                       .used = layout.integer("num_experts_per_tok"),
                       .intermediate = layout.integer("moe_intermediate_size"),
                       .normalize = layout.boolean("norm_topk_prob", true)});
  layout.set("expert_shared_feed_forward_length", layout.integer("shared_expert_intermediate_size"));
}

void map_ends_of(Layout& layout) {
  layout.tensor("token_embd.weight", "model.embed_tokens.weight");
  layout.tensor("output_norm.weight", "model.norm.weight", kPlusOne);
  if (layout.boolean("tie_word_embeddings", false) || !layout.has("lm_head.weight"))
    layout.ignore("lm_head.");
  else
    layout.tensor("output.weight", "lm_head.weight");
}

void map_qwen(Layout& layout, std::string_view architecture) {
  set_keys(layout, architecture);
  const Sizes sizes = read_sizes(layout);
  const std::vector<bool> recurrent = recurrent_layers(layout);
  set_delta_net(layout, sizes, recurrent);
  map_ends_of(layout);
  layout.ignore("mtp.");
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight", kPlusOne);
    if (!recurrent[static_cast<size_t>(i)]) {
      map_attention(layout, to, from + "self_attn.", QkRows::as_they_stand, kPlusOne);
    } else {
      layout.tensor(to + "ssm_norm.weight", from + "linear_attn.norm.weight");
      (architecture == "qwen3next" ? map_interleaved_delta_net : map_delta_net)(layout, to,
                                                                                from + "linear_attn.", sizes);
    }
    layout.tensor(to + "post_attention_norm.weight", from + "post_attention_layernorm.weight", kPlusOne);
    map_feed_forward(layout, to, from + "mlp.");
  }
}

}  // namespace

void map_qwen3next(Layout& layout) { map_qwen(layout, "qwen3next"); }
void map_qwen35(Layout& layout) { map_qwen(layout, "qwen35"); }
void map_qwen35moe(Layout& layout) { map_qwen(layout, "qwen35moe"); }

}  // namespace neutrino::weights
