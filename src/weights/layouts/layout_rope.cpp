// What config.json says of rotary embeddings: where it stands differs from writer to writer, what it means does not.
// Formulas: transformers' modeling_rope_utils.py; keys and tensors: llama.cpp's.
#include <cmath>
#include <numbers>

#include "base/limits.h"
#include "weights/layouts/layout.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

std::optional<double> finite_number(const json::object& rope, std::string_view name) {
  const json::value* value = rope.if_contains(name);
  if (!value || value->is_null()) return std::nullopt;
  json::error_code error;
  const double number = value->to_number<double>(error);
  if (error || !std::isfinite(number))
    throw refuse("config_field", "config.json: {} of the rope parameters must be a number, got {}", name,
                 printable(to_text(*value), 80));
  return number;
}

double positive_number(const json::object& rope, std::string_view name) {
  const auto number = finite_number(rope, name);
  if (!number || !(*number > 0))
    throw refuse("config_field", "config.json: {} of the rope parameters must be a positive number", name);
  return *number;
}

std::vector<float> factors(const json::object& rope, std::string_view name, int64_t count) {
  const json::value* list = rope.if_contains(name);
  if (!list || !list->is_array() || list->get_array().size() != static_cast<size_t>(count))
    throw refuse("config_field", "config.json: {} of the rope parameters must be a list of {} numbers", name,
                 count);
  std::vector<float> values;
  for (const json::value& value : list->get_array()) {
    json::error_code error;
    const double number = value.to_number<double>(error);
    if (error || !(number > 0) || !std::isfinite(number))
      throw refuse("config_field", "config.json: {} must hold positive numbers, got {}", name,
                   printable(to_text(value), 80));
    values.push_back(static_cast<float>(number));
  }
  return values;
}

double yarn_mscale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

const json::object* object_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_object() ? &value->get_object() : nullptr;
}

void copy_if_absent(json::object& to, const json::object& from, std::string_view name) {
  const json::value* value = from.if_contains(name);
  if (value && !value->is_null() && (!to.contains(name) || to.at(name).is_null())) to[name] = *value;
}

// Before transformers 5, models with two kinds of layers had a second theta under a name of their own; its layers do not scale.
json::object legacy_local_rope(const json::object& config) {
  json::object rope;
  for (const std::string_view name : {"rope_local_base_freq", "local_rope_theta", "rope_theta"})
    if (const json::value* theta = config.if_contains(name); theta && !theta->is_null()) {
      rope["rope_theta"] = *theta;
      break;
    }
  return rope;
}

json::object parameters_of(const json::object& config, std::string_view layer_type) {
  for (const std::string_view name : {"rope_parameters", "rope_scaling"})
    if (const json::object* rope = object_at(config, name)) {
      if (const json::object* nested = object_at(*rope, layer_type)) return *nested;
      if (const json::object* nested = object_at(*rope, "full_attention")) return *nested;
      if (layer_type == "sliding_attention" && name == "rope_scaling" &&
          (config.contains("rope_local_base_freq") || config.contains("local_rope_theta")))
        return legacy_local_rope(config);
      return *rope;
    }
  return layer_type == "sliding_attention" ? legacy_local_rope(config) : json::object();
}

}  // namespace

json::object Layout::rope(std::string_view layer_type) const {
  json::object rope = parameters_of(config_, layer_type);
  if (!rope.contains("rope_type") || !rope.at("rope_type").is_string())
    rope["rope_type"] = rope.contains("type") && rope.at("type").is_string() ? rope.at("type") : "default";
  if (const auto& type = rope.at("rope_type").get_string(); type == "su")
    rope["rope_type"] = "longrope";
  else if (type == "mrope")  // for text all three axes are the same position
    rope["rope_type"] = "default";
  copy_if_absent(rope, config_, "rope_theta");
  copy_if_absent(rope, config_, "global_rope_theta");
  if (!rope.contains("rope_theta") || rope.at("rope_theta").is_null())
    rope["rope_theta"] = rope.contains("global_rope_theta") ? rope.at("global_rope_theta") : 10000.0;
  copy_if_absent(rope, config_, "partial_rotary_factor");
  return rope;
}

// Phi3 has it beside the rope parameters, and that one counts.
int64_t Layout::original_context(const json::object& rope) const {
  if (field("original_max_position_embeddings")) return integer("original_max_position_embeddings");
  const auto original = finite_number(rope, "original_max_position_embeddings");
  const double value = original ? *original : number("max_position_embeddings");
  if (!(value >= 1 && value <= static_cast<double>(limits::kContextTokens)))
    throw refuse("config_size", "config.json: original_max_position_embeddings must be 1-{}, got {}",
                 limits::kContextTokens, value);
  return static_cast<int64_t>(value);
}

void Layout::set_rope(int64_t rotary_dim) {
  const json::object parameters = rope("full_attention");
  if (rotary_dim == 0)
    rotary_dim = static_cast<int64_t>(static_cast<double>(head_dim()) *
                                      finite_number(parameters, "partial_rotary_factor").value_or(1));
  if (rotary_dim < 2 || rotary_dim > limits::kVocabularyTokens)
    throw refuse("config_size", "config.json: {} dimensions of a head rotate: at least 2 were expected",
                 rotary_dim);
  set("rope.dimension_count", rotary_dim);
  set("rope.freq_base", positive_number(parameters, "rope_theta"));
  const std::string_view type = parameters.at("rope_type").get_string();
  if (type == "linear") return set_linear(parameters);
  if (type == "yarn") return set_yarn(parameters);
  if (type == "llama3") return set_llama3(parameters, rotary_dim);
  if (type == "longrope") return set_longrope(parameters, rotary_dim);
  if (type != "default")
    throw make_error(
        ErrorCode::unimplemented,
        "config.json: rope_type {} is not known; known are default, linear, yarn, llama3, longrope",
        in_quotes(type))
        .with_reason("config_field");
}

void Layout::set_linear(const json::object& rope) {
  set("rope.scaling.type", "linear");
  set("rope.scaling.factor", positive_number(rope, "factor"));
}

void Layout::set_yarn(const json::object& rope) {
  const int64_t original = original_context(rope);
  const double factor = finite_number(rope, "factor")
                            ? positive_number(rope, "factor")
                            : number("max_position_embeddings") / static_cast<double>(original);
  set("rope.scaling.type", "yarn");
  set("rope.scaling.factor", factor);
  set("rope.scaling.original_context_length", original);
  set("rope.scaling.yarn_beta_fast", finite_number(rope, "beta_fast").value_or(32));
  set("rope.scaling.yarn_beta_slow", finite_number(rope, "beta_slow").value_or(1));
  const json::value* truncate = rope.if_contains("truncate");
  if (truncate && truncate->is_bool() && !truncate->get_bool()) set("rope.scaling.yarn_truncate", false);

  const double mscale = finite_number(rope, "mscale").value_or(0);
  const double mscale_all_dim = finite_number(rope, "mscale_all_dim").value_or(0);
  double attention = yarn_mscale(factor, 1);
  if (const auto given = finite_number(rope, "attention_factor"))
    attention = *given;
  else if (mscale != 0 && mscale_all_dim != 0)
    attention = yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim);
  if (mscale_all_dim != 0)
    set("rope.scaling.yarn_log_multiplier", 0.1 * mscale_all_dim);
  else
    attention /= yarn_mscale(factor, 1);
  if (std::abs(attention - 1) > 1e-12) set("rope.scaling.attn_factor", attention);
}

// A frequency whose wavelength is beyond the original context is divided by the factor, one well within it stays, and between
// the two goes over smoothly.
void Layout::set_llama3(const json::object& rope, int64_t rotary_dim) {
  const double base = positive_number(rope, "rope_theta"), factor = positive_number(rope, "factor");
  const double low = finite_number(rope, "low_freq_factor").value_or(1);
  const double high = finite_number(rope, "high_freq_factor").value_or(4);
  const auto original = static_cast<double>(original_context(rope));
  if (!(low > 0 && high > low))
    throw refuse("config_field",
                 "config.json: 0 < low_freq_factor < high_freq_factor was expected, got {} and {}", low,
                 high);
  std::vector<float> divisors;
  for (int64_t i = 0; i < rotary_dim / 2; ++i) {
    const double frequency = std::pow(base, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    const double wavelength = 2 * std::numbers::pi / frequency;
    const double smooth = (original / wavelength - low) / (high - low);
    const double divisor = wavelength < original / high  ? 1
                           : wavelength > original / low ? factor
                                                         : 1 / ((1 - smooth) / factor + smooth);
    divisors.push_back(static_cast<float>(divisor));
  }
  constant("rope_freqs.weight", std::move(divisors));
}

void Layout::set_longrope(const json::object& rope, int64_t rotary_dim) {
  const int64_t original = original_context(rope);
  const auto given = finite_number(rope, "factor");
  const double factor = given ? *given : number("max_position_embeddings") / static_cast<double>(original);
  const double attention =
      finite_number(rope, "attention_factor")
          .value_or(factor <= 1 || original < 2
                        ? 1
                        : std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(original))));
  set("rope.scaling.type", "longrope");
  set("rope.scaling.original_context_length", original);
  set("rope.scaling.attn_factor", attention);
  constant("rope_factors_long.weight", factors(rope, "long_factor", rotary_dim / 2));
  constant("rope_factors_short.weight", factors(rope, "short_factor", rotary_dim / 2));
}

}  // namespace neutrino::weights
