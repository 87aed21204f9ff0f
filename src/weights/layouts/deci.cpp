// Llama-Nemotron ("DeciLM"): llama with block_configs that say what is left of each layer. Remote code of the checkpoints;
// the rows of q and k are put in another order as llama's.
#include "weights/layouts/decoder.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

struct Block {
  int64_t heads = 0,
          kv_heads = 0;  // no kv_heads but heads: a linear layer in the place of attention; no heads: nothing
  int64_t intermediate = 0;  // 0: no MLP
};

const json::object& object_at(const json::object& block, std::string_view name) {
  const json::value* value = block.if_contains(name);
  if (!value || !value->is_object())
    throw refuse("config_field", "config.json: each of block_configs must have an object {}", name);
  return value->get_object();
}

bool flag(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_bool() && value->get_bool();
}

// A number in (0, limit], or 0 where it is null or absent.
double number_at(const json::object& object, std::string_view name, double limit) {
  const json::value* value = object.if_contains(name);
  if (!value || value->is_null()) return 0;
  json::error_code error;
  const double number = value->to_number<double>(error);
  if (error || !(number > 0 && number <= limit))
    throw refuse("config_field", "config.json: {} of block_configs must be above 0 and at most {}, got {}",
                 name, limit, printable(to_text(*value), 80));
  return number;
}

void read_attention(const json::object& attention, int64_t heads, Block& block) {
  const auto group =
      static_cast<int64_t>(number_at(attention, "n_heads_in_group", static_cast<double>(heads)));
  if (flag(attention, "no_op")) return;
  if (flag(attention, "replace_with_linear")) {
    block.heads = heads;
    return;
  }
  if (group == 0) return;
  block.heads = heads;
  block.kv_heads = heads / group;
}

// The multiplier counts hidden sizes before the third matrix of a gated MLP took its share; rounded up to 256.
void read_mlp(const json::object& mlp, int64_t hidden, Block& block) {
  if (flag(mlp, "replace_with_linear"))
    throw make_error(ErrorCode::unimplemented,
                     "config.json: an MLP replaced with a linear layer is not supported")
        .with_reason("config_field");
  const double multiplier = number_at(mlp, "ffn_mult", 1024);
  if (flag(mlp, "no_op") || multiplier == 0) return;
  const auto size = static_cast<int64_t>(2 * multiplier * static_cast<double>(hidden) / 3);
  block.intermediate = (size + 255) / 256 * 256;
}

std::vector<Block> read_blocks(const Layout& layout) {
  const json::value* list = layout.config().if_contains("block_configs");
  if (!list || !list->is_array() || std::ssize(list->get_array()) != layout.layers())
    throw refuse("config_field", "config.json: block_configs must be a list of {} objects", layout.layers());
  const int64_t heads = layout.integer("num_attention_heads"), hidden = layout.integer("hidden_size");
  std::vector<Block> blocks;
  for (const json::value& value : list->get_array()) {
    if (!value.is_object())
      throw refuse("config_field", "config.json: block_configs must be a list of objects");
    Block block;
    read_attention(object_at(value.get_object(), "attention"), heads, block);
    read_mlp(object_at(value.get_object(), "ffn"), hidden, block);
    blocks.push_back(block);
  }
  return blocks;
}

// DeciLM-7B, before block_configs: only the number of key/value heads differs.
std::vector<Block> read_head_list(const Layout& layout, const json::value& list) {
  if (!list.is_array() || std::ssize(list.get_array()) != layout.layers())
    throw refuse("config_field", "config.json: num_key_value_heads_per_layer must be a list of {} numbers",
                 layout.layers());
  const int64_t heads = layout.integer("num_attention_heads");
  std::vector<Block> blocks;
  for (const json::value& value : list.get_array()) {
    json::error_code error;
    const auto kv_heads = value.to_number<int64_t>(error);
    if (error || kv_heads < 1 || kv_heads > heads)
      throw refuse("config_field", "config.json: num_key_value_heads_per_layer must be 1-{}, got {}", heads,
                   printable(to_text(value), 80));
    blocks.push_back({heads, kv_heads, layout.integer("intermediate_size")});
  }
  return blocks;
}

void set_sizes(Layout& layout, const std::vector<Block>& blocks) {
  std::vector<int64_t> heads, kv_heads, intermediate;
  for (const Block& block : blocks) {
    heads.push_back(block.heads), kv_heads.push_back(block.kv_heads);
    intermediate.push_back(block.intermediate);
  }
  layout.set("attention.head_count", std::move(heads));
  layout.set("attention.head_count_kv", std::move(kv_heads));
  layout.set("feed_forward_length", std::move(intermediate));
  layout.set("attention.key_length", layout.head_dim());
  layout.set("attention.value_length", layout.head_dim());
}

void map_attention(Layout& layout, const std::string& to, const std::string& from, const Block& block) {
  const int64_t dim = layout.head_dim();
  if (block.heads == 0) return;
  layout.tensor(to + "attn_norm.weight", from + "input_layernorm.weight");
  if (block.kv_heads == 0) {
    map_projection(layout, to + "attn_output", from + "self_attn.linear_attn");
    return;
  }
  map_projection(layout, to + "attn_q", from + "self_attn.q_proj", {.rows = rope_pairs(block.heads, dim)});
  map_projection(layout, to + "attn_k", from + "self_attn.k_proj", {.rows = rope_pairs(block.kv_heads, dim)});
  map_projection(layout, to + "attn_v", from + "self_attn.v_proj");
  map_projection(layout, to + "attn_output", from + "self_attn.o_proj");
}

}  // namespace

void map_deci(Layout& layout) {
  layout.set_architecture("deci");
  require_activation(layout, "hidden_act", {"silu", "swish"});
  const json::value* per_layer = layout.config().if_contains("num_key_value_heads_per_layer");
  const std::vector<Block> blocks = per_layer ? read_head_list(layout, *per_layer) : read_blocks(layout);
  layout.set_common();
  set_sizes(layout, blocks);
  layout.set_rope();
  map_ends(layout);
  for (int64_t i = 0; i < layout.layers(); ++i) {
    const std::string to = fmt::format("blk.{}.", i), from = fmt::format("model.layers.{}.", i);
    map_attention(layout, to, from, blocks[i]);
    if (blocks[i].intermediate == 0) continue;
    layout.tensor(to + "ffn_norm.weight", from + "post_attention_layernorm.weight");
    map_gated_mlp(layout, to, from + "mlp.");
  }
}

}  // namespace neutrino::weights
