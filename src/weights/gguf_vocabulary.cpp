#include "weights/gguf_vocabulary.h"

#include <cmath>

#include "base/limits.h"

namespace neutrino::weights {
namespace {

using tokenizer::TokenKind;
using tokenizer::Vocabulary;

std::string required_text(const GgufMetadata& metadata, std::string_view key) {
  const auto text = metadata.text(key);
  if (!text) throw refuse("vocabulary_missing", "the file must have {}", key);
  return std::string(*text);
}

// Refused by its count, before anything is sized by it.
std::vector<std::string_view> read_texts(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  if (value && value->count > limits::kVocabularyTokens)
    throw refuse("vocabulary_size", "{} must have at most {} elements, got {}", key,
                 limits::kVocabularyTokens, value->count);
  return metadata.texts(key).value_or(std::vector<std::string_view>());
}

std::vector<std::string> read_tokens(const GgufMetadata& metadata) {
  const auto texts = read_texts(metadata, "tokenizer.ggml.tokens");
  if (texts.empty()) throw refuse("vocabulary_missing", "the file must have tokenizer.ggml.tokens");
  for (size_t id = 0; id < texts.size(); ++id)
    if (static_cast<int64_t>(texts[id].size()) > limits::kTokenTextBytes)
      throw refuse("token_length", "token {} must be at most {} bytes long, got {}", id,
                   limits::kTokenTextBytes, texts[id].size());
  return {texts.begin(), texts.end()};
}

// The value of a per-token array, or nullptr: there is none.
const GgufValue* per_token(const GgufMetadata& metadata, std::string_view key, size_t tokens) {
  const GgufValue* value = metadata.find(key);
  if (value && static_cast<size_t>(value->count) != tokens)
    throw refuse("vocabulary_count", "{} must have one value for each of {} tokens, got {}", key, tokens,
                 value->count);
  return value;
}

std::vector<TokenKind> read_kinds(const GgufMetadata& metadata, size_t tokens) {
  std::vector<TokenKind> kinds;
  const GgufValue* value = per_token(metadata, "tokenizer.ggml.token_type", tokens);
  for (int64_t id = 0; value && id < value->count; ++id) {
    const auto kind = value->at<int32_t>(id);
    if (kind < 1 || kind > 6)
      throw refuse("token_kind", "the type of token {} must be 1-6, got {}", id, kind);
    kinds.push_back(static_cast<TokenKind>(kind));
  }
  return kinds;
}

// neutrino.tokenizer.scores has the digits that float32 cuts off; a score that has been changed since then counts.
std::vector<double> read_scores(const GgufMetadata& metadata, size_t tokens) {
  std::vector<double> scores;
  const GgufValue* value = per_token(metadata, "tokenizer.ggml.scores", tokens);
  const GgufValue* exact = per_token(metadata, "neutrino.tokenizer.scores", tokens);
  for (int64_t id = 0; value && id < value->count; ++id) {
    const auto score = value->at<float>(id);
    if (!std::isfinite(score))
      throw refuse("token_score", "the score of token {} must be finite, got {}", id, score);
    const bool same = exact && static_cast<float>(exact->at<double>(id)) == score;
    scores.push_back(same ? exact->at<double>(id) : score);
  }
  return scores;
}

std::vector<std::string> read_merges(const GgufMetadata& metadata) {
  const auto texts = read_texts(metadata, "tokenizer.ggml.merges");
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto space = texts[i].find(' ', 1);
    if (space == std::string_view::npos || space + 1 == texts[i].size())
      throw refuse("merge", "merge {} must be two parts with a space between, got {}", i,
                   in_quotes(texts[i]));
  }
  return {texts.begin(), texts.end()};
}

std::optional<int32_t> read_id(const GgufMetadata& metadata, std::string_view key, size_t tokens) {
  const auto id = metadata.integer(key);
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<int64_t>(tokens))
    throw refuse("special_id", "{} must be 0-{}, got {}", key, tokens - 1, *id);
  return static_cast<int32_t>(*id);
}

std::vector<int32_t> read_stops(const GgufMetadata& metadata, size_t tokens) {
  std::vector<int32_t> stops;
  const GgufValue* value = metadata.find("neutrino.tokenizer.stop_token_ids");
  for (int64_t i = 0; value && i < value->count; ++i) {
    const auto id = value->at<int32_t>(i);
    if (id < 0 || id >= static_cast<int64_t>(tokens))
      throw refuse("special_id", "a stop token id must be 0-{}, got {}", tokens - 1, id);
    stops.push_back(id);
  }
  return stops;
}

std::string read_bytes(const GgufMetadata& metadata, std::string_view key) {
  const GgufValue* value = metadata.find(key);
  if (!value) return {};
  return std::string(reinterpret_cast<const char*>(value->bytes.data()), value->bytes.size());
}

bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F') || (c >= 'a' && c <= 'f'); }

// A byte token is "<0x0A>": its two digits are an index for whoever reads them.
void check_byte_tokens(const Vocabulary& vocabulary) {
  for (size_t id = 0; id < vocabulary.kinds.size(); ++id) {
    const std::string& text = vocabulary.tokens[id];
    if (vocabulary.kinds[id] != TokenKind::byte) continue;
    if (text.size() != 6 || !text.starts_with("<0x") || !is_hex(text[3]) || !is_hex(text[4]) ||
        text[5] != '>')
      throw refuse("byte_token", "byte token {} must look like <0x0A>, got {}", id, in_quotes(text));
  }
}

}  // namespace

Vocabulary gguf_vocabulary(const GgufMetadata& metadata) {
  Vocabulary vocabulary;
  vocabulary.model = required_text(metadata, "tokenizer.ggml.model");
  vocabulary.pre = metadata.text("tokenizer.ggml.pre").value_or("");
  vocabulary.tokens = read_tokens(metadata);
  const size_t tokens = vocabulary.tokens.size();
  vocabulary.kinds = read_kinds(metadata, tokens);
  vocabulary.scores = read_scores(metadata, tokens);
  vocabulary.merges = read_merges(metadata);
  vocabulary.bos = read_id(metadata, "tokenizer.ggml.bos_token_id", tokens);
  vocabulary.eos = read_id(metadata, "tokenizer.ggml.eos_token_id", tokens);
  vocabulary.unknown = read_id(metadata, "tokenizer.ggml.unknown_token_id", tokens);
  vocabulary.padding = read_id(metadata, "tokenizer.ggml.padding_token_id", tokens);
  vocabulary.eot = read_id(metadata, "tokenizer.ggml.eot_token_id", tokens);
  vocabulary.separator = read_id(metadata, "tokenizer.ggml.seperator_token_id", tokens);
  vocabulary.mask = read_id(metadata, "tokenizer.ggml.mask_token_id", tokens);
  vocabulary.stops = read_stops(metadata, tokens);
  vocabulary.add_bos = metadata.boolean("tokenizer.ggml.add_bos_token");
  vocabulary.add_eos = metadata.boolean("tokenizer.ggml.add_eos_token");
  vocabulary.add_space_prefix = metadata.boolean("tokenizer.ggml.add_space_prefix");
  vocabulary.remove_extra_whitespaces = metadata.boolean("tokenizer.ggml.remove_extra_whitespaces");
  vocabulary.precompiled_charsmap = read_bytes(metadata, "tokenizer.ggml.precompiled_charsmap");
  vocabulary.pipeline = metadata.text("neutrino.tokenizer.pipeline").value_or("");
  check_byte_tokens(vocabulary);
  return vocabulary;
}

}  // namespace neutrino::weights
