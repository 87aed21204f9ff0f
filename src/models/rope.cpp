#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/limits.h"
#include "models/hyperparameters.h"

namespace neutrino::models {
namespace {

RopeScaling::Type scaling_type(const weights::WeightFile& file) {
  const std::string type = read_text_or(file, "rope.scaling.type", "none");
  if (type == "none" || type == "longrope") return RopeScaling::Type::none;  // longrope's tensors say it all
  if (type == "linear") return RopeScaling::Type::linear;
  if (type == "yarn") return RopeScaling::Type::yarn;
  throw make_error(ErrorCode::unimplemented, "rope.scaling.type \"{:.64}\" is not known", type);
}

std::vector<float> divisors(const weights::WeightFile& file, const char* name, int64_t rotary_dim) {
  std::vector<float> values = file.vector(name, rotary_dim / 2);
  for (const float value : values)
    if (!(value > 0) || !std::isfinite(value))
      throw make_error(ErrorCode::invalid_argument, "{} must be positive, got {}", name, value);
  return values;
}

// Divisors that stand in the file; longrope's is the long set where the model is loaded for more than the first context.
std::vector<float> file_divisors(const weights::WeightFile& file, int64_t rotary_dim, bool long_context) {
  if (file.find("rope_freqs.weight")) return divisors(file, "rope_freqs.weight", rotary_dim);
  const char* name = long_context ? "rope_factors_long.weight" : "rope_factors_short.weight";
  if (file.find("rope_factors_long.weight") || file.find("rope_factors_short.weight"))
    return divisors(file, name, rotary_dim);
  if (read_text_or(file, "rope.scaling.type", "none") == "longrope")
    throw make_error(ErrorCode::invalid_argument, "rope.scaling.type longrope needs {}", name);
  return {};
}

// The pair whose wave turns `rotations` times over the original context, as a real number.
double correction_pair(double rotations, int64_t rotary_dim, double theta, int64_t original_context) {
  return static_cast<double>(rotary_dim) *
         std::log(static_cast<double>(original_context) / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(theta));
}

// 1 for pairs that keep their frequency, 0 for those that are slowed down, a ramp between.
double yarn_ramp(int64_t pair, int64_t rotary_dim, double theta, const RopeScaling& scaling) {
  double low = correction_pair(scaling.beta_fast, rotary_dim, theta, scaling.original_context);
  double high = correction_pair(scaling.beta_slow, rotary_dim, theta, scaling.original_context);
  if (scaling.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0), high = std::min(high, static_cast<double>(rotary_dim - 1));
  if (low == high) high += 0.001;
  return 1 - std::clamp((static_cast<double>(pair) - low) / (high - low), 0.0, 1.0);
}

}  // namespace

RopeScaling read_rope_scaling(const weights::WeightFile& file, const ModelConfig& config, int64_t context) {
  RopeScaling scaling;
  scaling.type = scaling_type(file);
  scaling.original_context = read_size_or(file, "rope.scaling.original_context_length", 1,
                                          limits::kContextTokens, config.max_position_embeddings);
  if (scaling.type != RopeScaling::Type::none)
    scaling.factor = read_number(file, "rope.scaling.factor", 1e-3, 1e6);
  scaling.attention_factor = read_number_or(file, "rope.scaling.attn_factor", 1e-6, 1e6, 1);
  if (scaling.type == RopeScaling::Type::yarn) {
    if (!(config.rope_theta > 1))
      throw make_error(ErrorCode::invalid_argument, "rope.freq_base must be above 1 for yarn, got {}",
                       config.rope_theta);
    scaling.beta_fast = read_number_or(file, "rope.scaling.yarn_beta_fast", 1e-3, 1e6, 32);
    scaling.beta_slow = read_number_or(file, "rope.scaling.yarn_beta_slow", 1e-3, 1e6, 1);
    scaling.truncate = read_flag_or(file, "rope.scaling.yarn_truncate", true);
    // A file with a log multiplier (DeepSeek) scales the attention scores instead.
    if (read_number_or(file, "rope.scaling.yarn_log_multiplier", 0, 1e6, 0) == 0)
      scaling.attention_factor *= 1 + 0.1 * std::log(std::max(scaling.factor, 1.0));
  }
  scaling.divisors = file_divisors(file, config.rotary_dim, context > scaling.original_context);
  return scaling;
}

std::vector<double> rope_frequencies(int64_t rotary_dim, double theta, const RopeScaling& scaling) {
  std::vector<double> frequencies(static_cast<size_t>(rotary_dim / 2));
  for (int64_t i = 0; i < std::ssize(frequencies); ++i) {
    const double frequency = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    const double keep =
        scaling.type == RopeScaling::Type::yarn ? yarn_ramp(i, rotary_dim, theta, scaling) : 0;
    frequencies[i] = frequency * (keep + (1 - keep) / scaling.factor);
    if (!scaling.divisors.empty()) frequencies[i] /= scaling.divisors[i];
  }
  return frequencies;
}

Rope::Rope(int64_t positions, int64_t rotary_dim, double theta, compute::RopePairs pairs,
           const RopeScaling& scaling)
    : positions_(positions), rotary_dim_(rotary_dim), pairs_(pairs) {
  const std::vector<double> frequencies = rope_frequencies(rotary_dim, theta, scaling);
  const int64_t half = rotary_dim / 2;
  cosine_.resize(positions * half);
  sine_.resize(positions * half);
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequencies[i];
      cosine_[position * half + i] = static_cast<float>(std::cos(angle) * scaling.attention_factor);
      sine_[position * half + i] = static_cast<float>(std::sin(angle) * scaling.attention_factor);
    }
  }
}

}  // namespace neutrino::models
