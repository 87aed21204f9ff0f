#include "models/hyperparameters.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/limits.h"

namespace neutrino::models {
namespace {

std::string full_key(const weights::WeightFile& file, std::string_view key) {
  return fmt::format("{}.{}", file.metadata().text("general.architecture").value_or(""), key);
}

template <typename T>
T checked_range(std::string_view key, T value, T low, T high) {
  if (value >= low && value <= high) return value;  // false for NaN
  throw make_error(ErrorCode::invalid_argument, "{} must be {} to {}, got {}", key, low, high, value);
}

template <typename T>
T required(std::string_view key, std::optional<T> value) {
  if (value) return *value;
  throw make_error(ErrorCode::invalid_argument, "the model file has no {}", key);
}

bool is_array(const weights::WeightFile& file, std::string_view name) {
  const weights::MetadataValue value = file.metadata().value(name);
  return std::holds_alternative<std::vector<int64_t>>(value) ||
         std::holds_alternative<std::vector<bool>>(value);
}

std::vector<int64_t> layer_array(const weights::WeightFile& file, std::string_view name, int64_t layers,
                                 int64_t low, int64_t high) {
  std::vector<int64_t> values = required(name, file.metadata().integers(name));
  if (std::ssize(values) != layers)
    throw make_error(ErrorCode::invalid_argument, "{} must have one value for each of {} layers, got {}",
                     name, layers, values.size());
  for (const int64_t value : values) checked_range(name, value, low, high);
  return values;
}

int64_t largest(const std::vector<int64_t>& values) {
  return *std::max_element(values.begin(), values.end());
}

// Of all layers: one number, unless the architecture allows one a layer.
int64_t layer_size(const weights::WeightFile& file, std::string_view key, const ModelConfig& config,
                   const CommonKeys& keys, int64_t high) {
  const auto values = read_layer_sizes(file, key, config.num_hidden_layers, keys.per_layer ? 0 : 1, high);
  if (!keys.per_layer && largest(values) != *std::min_element(values.begin(), values.end()))
    throw make_error(ErrorCode::unimplemented, "{} must be the same in all layers", full_key(file, key));
  return std::max<int64_t>(largest(values), 1);
}

void read_heads(const weights::WeightFile& file, const CommonKeys& keys, ModelConfig& config) {
  config.num_attention_heads = layer_size(file, "attention.head_count", config, keys, kHeadsMax);
  config.num_key_value_heads =
      file.metadata().has(full_key(file, "attention.head_count_kv"))
          ? layer_size(file, "attention.head_count_kv", config, keys, config.num_attention_heads)
          : config.num_attention_heads;
  if (!keys.per_layer && config.num_attention_heads % config.num_key_value_heads != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "attention.head_count must be a multiple of head_count_kv, got {} and {}",
                     config.num_attention_heads, config.num_key_value_heads);
  if (!file.metadata().has(full_key(file, "attention.key_length")) &&
      config.hidden_size % config.num_attention_heads != 0)
    throw make_error(ErrorCode::invalid_argument,
                     "embedding_length must be a multiple of head_count, got {} and {}", config.hidden_size,
                     config.num_attention_heads);
  config.head_dim = read_size_or(file, "attention.key_length", 1, kHeadsMax,
                                 config.hidden_size / config.num_attention_heads);
  if (!keys.value_length &&
      read_size_or(file, "attention.value_length", 1, kHeadsMax, config.head_dim) != config.head_dim)
    throw make_error(ErrorCode::unimplemented, "attention.value_length must equal key_length ({})",
                     config.head_dim);
  config.rotary_dim = read_size_or(file, "rope.dimension_count", 1, config.head_dim, config.head_dim);
  if (config.rotary_dim % 2 != 0)
    throw make_error(ErrorCode::invalid_argument, "rope.dimension_count must be even, got {}",
                     config.rotary_dim);
}

}  // namespace

int64_t read_size(const weights::WeightFile& file, std::string_view key, int64_t low, int64_t high) {
  const std::string name = full_key(file, key);
  return checked_range(name, required(name, file.metadata().integer(name)), low, high);
}

int64_t read_size_or(const weights::WeightFile& file, std::string_view key, int64_t low, int64_t high,
                     int64_t fallback) {
  const std::string name = full_key(file, key);
  return checked_range(name, file.metadata().integer(name).value_or(fallback), low, high);
}

double read_number(const weights::WeightFile& file, std::string_view key, double low, double high) {
  const std::string name = full_key(file, key);
  return checked_range(name, required(name, file.metadata().number(name)), low, high);
}

double read_number_or(const weights::WeightFile& file, std::string_view key, double low, double high,
                      double fallback) {
  const std::string name = full_key(file, key);
  return checked_range(name, file.metadata().number(name).value_or(fallback), low, high);
}

bool read_flag_or(const weights::WeightFile& file, std::string_view key, bool fallback) {
  return file.metadata().boolean(full_key(file, key)).value_or(fallback);
}

std::string read_text_or(const weights::WeightFile& file, std::string_view key, std::string_view fallback) {
  return std::string(file.metadata().text(full_key(file, key)).value_or(fallback));
}

std::vector<int64_t> read_layer_sizes(const weights::WeightFile& file, std::string_view key, int64_t layers,
                                      int64_t low, int64_t high) {
  const std::string name = full_key(file, key);
  if (file.metadata().has(name) && is_array(file, name)) return layer_array(file, name, layers, low, high);
  return std::vector<int64_t>(static_cast<size_t>(layers), read_size(file, key, low, high));
}

std::vector<int64_t> read_layer_sizes_or(const weights::WeightFile& file, std::string_view key,
                                         int64_t layers, int64_t low, int64_t high, int64_t fallback) {
  if (file.metadata().has(full_key(file, key))) return read_layer_sizes(file, key, layers, low, high);
  return std::vector<int64_t>(static_cast<size_t>(layers), checked_range(key, fallback, low, high));
}

std::vector<int64_t> read_windows(const weights::WeightFile& file, int64_t layers, int64_t period,
                                  int64_t fallback) {
  const int64_t window = read_size_or(file, "attention.sliding_window", 0, limits::kContextTokens, fallback);
  std::vector<int64_t> windows(static_cast<size_t>(layers), 0);
  if (window == 0) return windows;
  const std::string pattern = full_key(file, "attention.sliding_window_pattern");
  if (file.metadata().has(pattern) && is_array(file, pattern)) {
    const auto slides = layer_array(file, pattern, layers, 0, 1);
    for (int64_t i = 0; i < layers; ++i) windows[i] = slides[i] ? window : 0;
    return windows;
  }
  const int64_t n = read_size_or(file, "attention.sliding_window_pattern", 0, limits::kLayers, period);
  for (int64_t i = 0; i < layers; ++i) windows[i] = n == 0 || i % n < n - 1 ? window : 0;
  return windows;
}

ModelConfig read_common_config(const weights::WeightFile& file, const CommonKeys& keys) {
  ModelConfig config;
  config.architecture = file.metadata().text("general.architecture").value_or("");
  config.hidden_size = read_size(file, "embedding_length", 1, kHiddenMax);
  config.num_hidden_layers = read_size(file, "block_count", 1, limits::kLayers);
  if (!keys.feed_forward_optional || file.metadata().has(full_key(file, "feed_forward_length")))
    config.intermediate_size = layer_size(file, "feed_forward_length", config, keys, kHiddenMax);
  read_heads(file, keys, config);
  config.max_position_embeddings = read_size(file, "context_length", 1, limits::kContextTokens);
  config.rms_norm_eps = read_number(file, keys.epsilon, 1e-12, 1);
  config.rope_theta = read_number_or(file, "rope.freq_base", 1, 1e12, 10000);
  const weights::TensorEntry* embedding = file.find("token_embd.weight");
  if (embedding == nullptr || embedding->shape.size() != 2)
    throw Error(ErrorCode::invalid_argument, "the model file needs a two-dimensional token_embd.weight");
  config.vocab_size = embedding->shape[0];
  config.tie_word_embeddings = file.find("output.weight") == nullptr;
  return config;
}

}  // namespace neutrino::models
