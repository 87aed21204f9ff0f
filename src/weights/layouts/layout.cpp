#include "weights/layouts/layout.h"

#include <algorithm>
#include <cmath>

#include "base/limits.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

// No size in a config.json comes near, and the product of two is far from the end of int64_t.
constexpr int64_t kIntegerMax = limits::kContextTokens;
constexpr int64_t kRowsMax = limits::kVocabularyTokens;

// Fields of the language model of a model that also sees or hears stand in an object of their own.
constexpr std::string_view kTextConfigs[] = {"text_config", "llm_config", "language_config"};

json::object flattened(const json::object& config) {
  json::object flat = config;
  for (const std::string_view name : kTextConfigs)
    if (const json::value* text = config.if_contains(name); text && text->is_object())
      for (const auto& [key, value] : text->get_object())
        if (key != "architectures") flat[key] = value;
  return flat;
}

Error wrong_field(std::string_view name, std::string_view expected, const json::value& value) {
  return refuse("config_field", "config.json: {} must be {}, got {}", printable(name, 80), expected,
                printable(to_text(value), 80));
}

std::optional<double> number_of(const json::value& value) {
  if (value.is_double()) return value.get_double();
  if (value.is_int64()) return static_cast<double>(value.get_int64());
  if (value.is_uint64()) return static_cast<double>(value.get_uint64());
  return std::nullopt;
}

bool starts_with_any(std::string_view name, const std::vector<std::string>& prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](const std::string& prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::vector<int64_t> row_range(int64_t first, int64_t count, int64_t step) {
  if (first < 0 || first > kRowsMax || count < 0 || count > kRowsMax || step < 1 || step > kRowsMax)
    throw refuse("config_size", "config.json asks for rows {} + i * {}, i < {}: at most {} are possible",
                 first, step, count, kRowsMax);
  std::vector<int64_t> rows(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) rows[static_cast<size_t>(i)] = first + i * step;
  return rows;
}

std::vector<int64_t> rope_pairs(int64_t heads, int64_t head_dim, int64_t rotary_dim) {
  const int64_t rotary = rotary_dim == 0 ? head_dim : rotary_dim;
  if (heads < 1 || head_dim < 1 || heads > kRowsMax / head_dim || rotary < 0 || rotary > head_dim ||
      rotary % 2 != 0)
    throw refuse(
        "config_size",
        "config.json has {} heads of {} dimensions of which {} rotate: an even number was expected, and at "
        "most {} rows",
        heads, head_dim, rotary, kRowsMax);
  std::vector<int64_t> rows = row_range(0, heads * head_dim);
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t i = 0; i < rotary; ++i)
      rows[static_cast<size_t>(head * head_dim + i)] = head * head_dim + i / 2 + (i % 2) * (rotary / 2);
  return rows;
}

Layout::Layout(const json::object& config, std::vector<std::string> tensors)
    : config_(flattened(config)), sources_(std::move(tensors)) {
  std::sort(sources_.begin(), sources_.end());
}

const json::value* Layout::field(std::string_view name) const {
  const json::value* value = config_.if_contains(name);
  return value && !value->is_null() ? value : nullptr;
}

double Layout::number(std::string_view name) const {
  const json::value* value = field(name);
  if (!value) throw refuse("config_missing", "config.json must have {}", name);
  const auto number = number_of(*value);
  if (!number || !std::isfinite(*number)) throw wrong_field(name, "a finite number", *value);
  return *number;
}

double Layout::number(std::string_view name, double fallback) const {
  return field(name) ? number(name) : fallback;
}

int64_t Layout::integer(std::string_view name) const {
  const double value = number(name);
  if (value != std::floor(value) || std::abs(value) > static_cast<double>(kIntegerMax))
    throw wrong_field(name, fmt::format("an integer of at most {}", kIntegerMax), *field(name));
  return static_cast<int64_t>(value);
}

int64_t Layout::integer(std::string_view name, int64_t fallback) const {
  return field(name) ? integer(name) : fallback;
}

bool Layout::boolean(std::string_view name, bool fallback) const {
  const json::value* value = field(name);
  if (!value) return fallback;
  if (!value->is_bool()) throw wrong_field(name, "true or false", *value);
  return value->get_bool();
}

std::string Layout::text(std::string_view name, std::string_view fallback) const {
  const json::value* value = field(name);
  if (!value) return std::string(fallback);
  if (!value->is_string()) throw wrong_field(name, "a string", *value);
  return std::string(value->get_string());
}

int64_t Layout::layers() const {
  const int64_t layers = integer("num_hidden_layers");
  if (layers < 1 || layers > limits::kLayers)
    throw refuse("config_size", "config.json: num_hidden_layers must be 1-{}, got {}", limits::kLayers,
                 layers);
  return layers;
}

int64_t Layout::head_dim() const {
  if (field("head_dim")) {
    const int64_t size = integer("head_dim");
    if (size < 1) throw refuse("config_size", "config.json: head_dim must be at least 1, got {}", size);
    return size;
  }
  const int64_t hidden = integer("hidden_size"), heads = integer("num_attention_heads");
  if (heads < 1 || hidden < heads)
    throw refuse("config_size",
                 "config.json: hidden_size and num_attention_heads must be positive, got {} and {}", hidden,
                 heads);
  return hidden / heads;
}

// ---- what the canonical file says

void Layout::set_architecture(std::string_view name) {
  check(architecture_.empty(), "the architecture is set once");
  architecture_ = name;
  set_general("general.architecture", std::string(name));
}

void Layout::set(std::string_view key, MetadataValue value) {
  check(!architecture_.empty(), "the architecture is set before its keys");
  set_general(fmt::format("{}.{}", architecture_, key), std::move(value));
}

void Layout::set_general(std::string_view key, MetadataValue value) {
  for (auto& [name, old] : metadata_)
    if (name == key) {
      old = std::move(value);
      return;
    }
  metadata_.emplace_back(key, std::move(value));
}

void Layout::set_common() {
  set("block_count", layers());
  set("embedding_length", integer("hidden_size"));
  if (field("vocab_size")) set("vocab_size", integer("vocab_size"));
  if (field("max_position_embeddings")) set("context_length", integer("max_position_embeddings"));
  if (const json::value* size = field("intermediate_size"); size && !size->is_array())
    set("feed_forward_length", integer("intermediate_size"));
  const int64_t heads = integer("num_attention_heads");
  set("attention.head_count", heads);
  if (const json::value* kv = field("num_key_value_heads"); !kv || !kv->is_array())
    set("attention.head_count_kv", integer("num_key_value_heads", heads));
  if (field("head_dim")) {
    set("attention.key_length", head_dim());
    set("attention.value_length", head_dim());
  }
  if (field("rms_norm_eps"))
    set("attention.layer_norm_rms_epsilon", number("rms_norm_eps"));
  else if (field("layer_norm_eps"))
    set("attention.layer_norm_epsilon", number("layer_norm_eps"));
  else if (field("norm_eps"))
    set("attention.layer_norm_epsilon", number("norm_eps"));
}

bool Layout::has(std::string_view source) const {
  return std::binary_search(sources_.begin(), sources_.end(), source, std::less<>());
}

void Layout::add_rule(TensorRule rule) {
  for (const std::string& source : rule.sources)
    if (!has(source))
      throw refuse("tensor_missing", "the checkpoint has no tensor {}, which {} is made of",
                   in_quotes(source), rule.name);
  rules_.push_back(std::move(rule));
}

void Layout::tensor(std::string name, std::string source, Transform transform) {
  add_rule({std::move(name), {std::move(source)}, std::move(transform)});
}

void Layout::stack(std::string name, std::vector<std::string> sources, Transform transform) {
  check(!sources.empty(), "a stacked tensor has parts");
  add_rule({std::move(name), std::move(sources), std::move(transform)});
}

void Layout::constant(std::string name, std::vector<float> values) {
  constants_.emplace_back(std::move(name), std::move(values));
}

void Layout::ignore(std::string_view source_prefix) { ignored_.emplace_back(source_prefix); }

void Layout::check_complete() const {
  std::vector<std::string_view> used;
  for (const TensorRule& rule : rules_) used.insert(used.end(), rule.sources.begin(), rule.sources.end());
  std::sort(used.begin(), used.end());
  std::string left;
  int64_t count = 0;
  for (const std::string& source : sources_) {
    if (std::binary_search(used.begin(), used.end(), std::string_view(source)) ||
        starts_with_any(source, ignored_) ||
        source.ends_with("rotary_emb.inv_freq"))  // follows from config.json; older writers stored it
      continue;
    if (++count <= 5) left += (left.empty() ? "" : ", ") + in_quotes(source);
  }
  if (count > 0)
    throw refuse("tensor_unknown", "the checkpoint has {} tensors that architecture {} has no use for: {}{}",
                 count, printable(architecture_, 80), left, count > 5 ? ", ..." : "");
}

}  // namespace neutrino::weights
