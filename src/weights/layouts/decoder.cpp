#include "weights/layouts/decoder.h"

#include <algorithm>
#include <cmath>

#include "weights/reader.h"

namespace neutrino::weights {

void map_projection(Layout& layout, const std::string& to, const std::string& from,
                    const Transform& transform) {
  layout.tensor(to + ".weight", from + ".weight", transform);
  if (layout.has(from + ".bias")) layout.tensor(to + ".bias", from + ".bias", transform);
}

void map_ends(Layout& layout) {
  layout.tensor("token_embd.weight", "model.embed_tokens.weight");
  layout.tensor("output_norm.weight", "model.norm.weight");
  if (layout.boolean("tie_word_embeddings", false) || !layout.has("lm_head.weight"))
    layout.ignore("lm_head.");
  else
    layout.tensor("output.weight", "lm_head.weight");
}

void map_gated_mlp(Layout& layout, const std::string& to, const std::string& from,
                   const std::string& suffix) {
  for (const std::string part : {"gate", "up", "down"})
    map_projection(layout, fmt::format("{}ffn_{}{}", to, part, suffix), fmt::format("{}{}_proj", from, part));
}

namespace {

// Row i of the result is row first + rows[i] of the source.
Transform slice(int64_t first, std::vector<int64_t> rows) {
  for (int64_t& row : rows) row += first;
  return {.rows = std::move(rows)};
}

}  // namespace

void map_attention(Layout& layout, const std::string& to, const std::string& from, QkRows rows,
                   const Transform& norm) {
  const int64_t dim = layout.head_dim(), heads = layout.integer("num_attention_heads");
  const int64_t kv_heads = layout.integer("num_key_value_heads", heads);
  const auto order = [&](int64_t count) {
    return rows == QkRows::paired ? rope_pairs(count, dim) : row_range(0, count * dim);
  };
  if (layout.has(from + "qkv_proj.weight")) {
    const int64_t q = heads * dim, k = kv_heads * dim;
    map_projection(layout, to + "attn_q", from + "qkv_proj", slice(0, order(heads)));
    map_projection(layout, to + "attn_k", from + "qkv_proj", slice(q, order(kv_heads)));
    map_projection(layout, to + "attn_v", from + "qkv_proj", slice(q + k, row_range(0, k)));
  } else {
    const bool paired = rows == QkRows::paired;
    map_projection(layout, to + "attn_q", from + "q_proj", paired ? slice(0, order(heads)) : Transform{});
    map_projection(layout, to + "attn_k", from + "k_proj", paired ? slice(0, order(kv_heads)) : Transform{});
    map_projection(layout, to + "attn_v", from + "v_proj");
  }
  map_projection(layout, to + "attn_output", from + "o_proj");
  for (const std::string part : {"q", "k"})
    if (layout.has(from + part + "_norm.weight"))
      layout.tensor(to + "attn_" + part + "_norm.weight", from + part + "_norm.weight", norm);
}

namespace {

std::vector<bool> sliding_layers(const Layout& layout, const json::array& types) {
  if (std::ssize(types) != layout.layers())
    throw refuse("config_field", "config.json: layer_types must name {} layers, got {}", layout.layers(),
                 types.size());
  std::vector<bool> slides;
  for (const json::value& type : types) {
    if (!type.is_string() ||
        (type.get_string() != "sliding_attention" && type.get_string() != "full_attention"))
      throw refuse("config_field",
                   "config.json: layer_types must be sliding_attention or full_attention, got {}",
                   printable(to_text(type), 80));
    slides.push_back(type.get_string() == "sliding_attention");
  }
  return slides;
}

}  // namespace

void set_windows(Layout& layout, int64_t window, bool (*slides)(const Layout& layout, int64_t layer)) {
  if (window < 1) return;
  std::vector<bool> layers(static_cast<size_t>(layout.layers()), true);
  const json::value* types = layout.config().if_contains("layer_types");
  if (types && types->is_array())
    layers = sliding_layers(layout, types->get_array());
  else if (slides)
    for (int64_t i = 0; i < std::ssize(layers); ++i) layers[i] = slides(layout, i);
  if (std::ranges::none_of(layers, [](bool slide) { return slide; })) return;
  layout.set("attention.sliding_window", window);
  layout.set("attention.sliding_window_pattern", std::move(layers));
}

double rope_base(const Layout& layout, std::string_view layer_type) {
  const json::object rope = layout.rope(layer_type);
  const json::value& value = rope.at("rope_theta");
  json::error_code error;
  const double base = value.to_number<double>(error);
  if (error || !(base > 0) || !std::isfinite(base))
    throw refuse("config_field", "config.json: rope_theta of {} must be a positive number, got {}",
                 layer_type, printable(to_text(value), 80));
  return base;
}

void set_rope_base(Layout& layout, double base) {
  for (const std::string_view name : {"rope_theta", "rope_parameters", "global_rope_theta"})
    if (const json::value* value = layout.config().if_contains(name); value && !value->is_null()) return;
  layout.set("rope.freq_base", base);
}

void require_activation(const Layout& layout, std::string_view field,
                        const std::vector<std::string_view>& known) {
  const std::string name = layout.text(field, known.front());
  if (std::ranges::find(known, name) == known.end())
    throw make_error(ErrorCode::unimplemented, "config.json: {} {} is not supported for this architecture",
                     field, in_quotes(name))
        .with_reason("config_field");
}

}  // namespace neutrino::weights
