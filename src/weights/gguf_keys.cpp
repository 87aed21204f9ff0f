// The metadata keys that neutrino reads, and what each must hold. A file that stores one of them as something else is refused
// when it is opened: scores stored as bytes and read as floats would be read past their end.
#include "weights/gguf_metadata.h"

namespace neutrino::weights {
namespace {

struct KnownKey {
  std::string_view name;
  KeyKind kind;
};

constexpr KnownKey kKeys[] = {
    {"general.alignment", KeyKind::integer},
    {"general.architecture", KeyKind::text},
    {"general.file_type", KeyKind::integer},
    {"general.license", KeyKind::text},
    {"general.license.link", KeyKind::text},
    {"general.license.name", KeyKind::text},
    {"general.name", KeyKind::text},
    {"general.quantization_version", KeyKind::integer},
    {"general.source.url", KeyKind::text},
    {"neutrino.tokenizer.pipeline", KeyKind::text},
    {"neutrino.tokenizer.scores", KeyKind::doubles},
    {"neutrino.tokenizer.stop_token_ids", KeyKind::int32s},
    {"split.count", KeyKind::integer},
    {"split.no", KeyKind::integer},
    {"split.tensors.count", KeyKind::integer},
    {"tokenizer.chat_template", KeyKind::text},
    {"tokenizer.ggml.add_bos_token", KeyKind::boolean},
    {"tokenizer.ggml.add_eos_token", KeyKind::boolean},
    {"tokenizer.ggml.add_space_prefix", KeyKind::boolean},
    {"tokenizer.ggml.bos_token_id", KeyKind::integer},
    {"tokenizer.ggml.eos_token_id", KeyKind::integer},
    {"tokenizer.ggml.eot_token_id", KeyKind::integer},
    {"tokenizer.ggml.mask_token_id", KeyKind::integer},
    {"tokenizer.ggml.merges", KeyKind::texts},
    {"tokenizer.ggml.model", KeyKind::text},
    {"tokenizer.ggml.padding_token_id", KeyKind::integer},
    {"tokenizer.ggml.pre", KeyKind::text},
    {"tokenizer.ggml.precompiled_charsmap", KeyKind::bytes},
    {"tokenizer.ggml.remove_extra_whitespaces", KeyKind::boolean},
    {"tokenizer.ggml.scores", KeyKind::floats},
    {"tokenizer.ggml.seperator_token_id", KeyKind::integer},  // so spelt by its writers
    {"tokenizer.ggml.token_type", KeyKind::int32s},
    {"tokenizer.ggml.tokens", KeyKind::texts},
    {"tokenizer.ggml.unknown_token_id", KeyKind::integer},
};

// Behind the architecture's name: "llama.block_count". Some architectures give one value a layer.
constexpr KnownKey kArchitectureKeys[] = {
    {"attention.causal", KeyKind::boolean},
    {"attention.head_count", KeyKind::integers_or_integer},
    {"attention.head_count_kv", KeyKind::integers_or_integer},
    {"attention.key_length", KeyKind::integer},
    {"attention.layer_norm_epsilon", KeyKind::number},
    {"attention.layer_norm_rms_epsilon", KeyKind::number},
    {"attention.scale", KeyKind::number},
    {"attention.sliding_window", KeyKind::integer},
    {"attention.value_length", KeyKind::integer},
    {"block_count", KeyKind::integer},
    {"context_length", KeyKind::integer},
    {"embedding_length", KeyKind::integer},
    {"expert_count", KeyKind::integer},
    {"expert_used_count", KeyKind::integers_or_integer},
    {"feed_forward_length", KeyKind::integers_or_integer},
    {"rope.dimension_count", KeyKind::integer},
    {"rope.freq_base", KeyKind::number},
    {"rope.scaling.attn_factor", KeyKind::number},
    {"rope.scaling.factor", KeyKind::number},
    {"rope.scaling.original_context_length", KeyKind::integer},
    {"rope.scaling.type", KeyKind::text},
    {"vocab_size", KeyKind::integer},
};

}  // namespace

std::optional<KeyKind> known_key_kind(std::string_view key) {
  for (const KnownKey& known : kKeys)
    if (key == known.name) return known.kind;
  const auto dot = key.find('.');
  if (dot == key.npos || key.starts_with("general.") || key.starts_with("tokenizer.")) return std::nullopt;
  for (const KnownKey& known : kArchitectureKeys)
    if (key.substr(dot + 1) == known.name) return known.kind;
  return std::nullopt;
}

}  // namespace neutrino::weights
