#include "models/layers.h"

#include <cmath>
#include <optional>

#include "base/error.h"

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

Rope::Rope(int64_t positions, int64_t rotary_dim, double theta, std::span<const float> frequency_divisors,
           compute::RopePairs pairs)
    : positions_(positions), rotary_dim_(rotary_dim), pairs_(pairs) {
  const int64_t half = rotary_dim / 2;
  std::vector<double> frequency(static_cast<size_t>(half));
  for (int64_t i = 0; i < half; ++i) {
    frequency[i] = std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim));
    if (!frequency_divisors.empty()) frequency[i] /= frequency_divisors[i];
  }
  cosine_.resize(positions * half);
  sine_.resize(positions * half);
  for (int64_t position = 0; position < positions; ++position) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle = static_cast<double>(position) * frequency[i];
      cosine_[position * half + i] = static_cast<float>(std::cos(angle));
      sine_[position * half + i] = static_cast<float>(std::sin(angle));
    }
  }
}

}  // namespace neutrino::models
