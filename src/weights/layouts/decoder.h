// What the layouts of decoders share: the parts of a layer under the names that most checkpoints give them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "weights/layouts/layout.h"

namespace neutrino::weights {

// `from`.weight and, if the checkpoint has it, `from`.bias.
void map_projection(Layout& layout, const std::string& to, const std::string& from,
                    const Transform& transform = {});

// Embedding, final norm and head, unless the head is the embedding.
void map_ends(Layout& layout);

// `from`{gate,up,down}_proj.weight become `to`ffn_{gate,up,down}`suffix`.weight, with their biases if they have some.
void map_gated_mlp(Layout& layout, const std::string& to, const std::string& from,
                   const std::string& suffix = {});

// How q and k stand in the canonical form: as in the checkpoint, or with the halves that rotate together put side by side.
enum class QkRows : uint8_t { as_they_stand, paired };

// `from`{q,k,v,o}_proj ("model.layers.3.self_attn.") with their biases, and q_norm and k_norm if there are any, or of
// qkv_proj that holds q, k and v one above the other.
void map_attention(Layout& layout, const std::string& to, const std::string& from, QkRows rows,
                   const Transform& norm = {});

// attention.sliding_window, and attention.sliding_window_pattern from layer_types. `slides(i)` says it of layer i for a
// config.json without layer_types; null: all layers do. Nothing is written where no layer slides.
void set_windows(Layout& layout, int64_t window,
                 bool (*slides)(const Layout& layout, int64_t layer) = nullptr);

// The base of the rotary positions of layers of a type ("sliding_attention"), where they have one of their own.
double rope_base(const Layout& layout, std::string_view layer_type);
// The base of the rotary positions where config.json does not say it: after set_rope().
void set_rope_base(Layout& layout, double base);

// Throws Error where config.json names, in `field`, another function than one of `known`.
void require_activation(const Layout& layout, std::string_view field,
                        const std::vector<std::string_view>& known);

}  // namespace neutrino::weights
