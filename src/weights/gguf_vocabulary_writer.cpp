#include "weights/gguf_vocabulary_writer.h"

#include <algorithm>

namespace neutrino::weights {
namespace {

void set_id(GgufKeyValues& key_values, std::string_view name, std::optional<int32_t> id) {
  if (id) key_values.set(fmt::format("tokenizer.ggml.{}_token_id", name), static_cast<uint32_t>(*id));
}

void set_flag(GgufKeyValues& key_values, std::string_view name, std::optional<bool> flag) {
  if (flag) key_values.set(fmt::format("tokenizer.ggml.{}", name), *flag);
}

std::vector<int32_t> kind_numbers(const tokenizer::Vocabulary& vocabulary) {
  std::vector<int32_t> numbers;
  for (const auto kind : vocabulary.kinds) numbers.push_back(static_cast<int32_t>(kind));
  return numbers;
}

// The key has float32. A Unigram tokenizer may decide by digits that are beyond it, so they are kept for ourselves.
void set_scores(GgufKeyValues& key_values, const std::vector<double>& scores) {
  const std::vector<float> floats(scores.begin(), scores.end());
  key_values.set("tokenizer.ggml.scores", floats);
  if (!std::ranges::equal(scores, floats)) key_values.set("neutrino.tokenizer.scores", scores);
}

}  // namespace

// "seperator" is how the format spells it.
void set_gguf_vocabulary(GgufKeyValues& key_values, const tokenizer::Vocabulary& vocabulary) {
  key_values.set("tokenizer.ggml.model", vocabulary.model);
  if (!vocabulary.pre.empty()) key_values.set("tokenizer.ggml.pre", vocabulary.pre);
  key_values.set("tokenizer.ggml.tokens", vocabulary.tokens);
  if (!vocabulary.kinds.empty()) key_values.set("tokenizer.ggml.token_type", kind_numbers(vocabulary));
  if (!vocabulary.scores.empty()) set_scores(key_values, vocabulary.scores);
  if (!vocabulary.merges.empty()) key_values.set("tokenizer.ggml.merges", vocabulary.merges);
  set_id(key_values, "bos", vocabulary.bos);
  set_id(key_values, "eos", vocabulary.eos);
  set_id(key_values, "eot", vocabulary.eot);
  set_id(key_values, "unknown", vocabulary.unknown);
  set_id(key_values, "padding", vocabulary.padding);
  set_id(key_values, "seperator", vocabulary.separator);
  set_id(key_values, "mask", vocabulary.mask);
  set_flag(key_values, "add_bos_token", vocabulary.add_bos);
  set_flag(key_values, "add_eos_token", vocabulary.add_eos);
  set_flag(key_values, "add_space_prefix", vocabulary.add_space_prefix);
  set_flag(key_values, "remove_extra_whitespaces", vocabulary.remove_extra_whitespaces);
  if (!vocabulary.precompiled_charsmap.empty()) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(vocabulary.precompiled_charsmap.data());
    key_values.set("tokenizer.ggml.precompiled_charsmap",
                   std::span<const uint8_t>(bytes, vocabulary.precompiled_charsmap.size()));
  }
  if (!vocabulary.stops.empty()) key_values.set("neutrino.tokenizer.stop_token_ids", vocabulary.stops);
  if (!vocabulary.pipeline.empty()) key_values.set("neutrino.tokenizer.pipeline", vocabulary.pipeline);
}

}  // namespace neutrino::weights
