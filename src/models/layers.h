// What two architectures share: reading hyper-parameters with bounds, and the rotary table.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "compute/backend.h"
#include "weights/weight_file.h"

namespace neutrino::models {

// The integer at "<architecture>.<key>", in [low, high]. Throws Error naming key, value and range. The second form has a
// fallback for an absent key.
int64_t read_size(const weights::WeightFile& file, std::string_view key, int64_t low, int64_t high);
int64_t read_size_or(const weights::WeightFile& file, std::string_view key, int64_t low, int64_t high,
                     int64_t fallback);

// The number at "<architecture>.<key>", finite and in [low, high].
double read_number(const weights::WeightFile& file, std::string_view key, double low, double high);
double read_number_or(const weights::WeightFile& file, std::string_view key, double low, double high,
                      double fallback);

// cos and sin of position * theta^(-2i / rotary_dim) for i < rotary_dim / 2, rounded to float32 from double.
class Rope {
 public:
  Rope(int64_t positions, int64_t rotary_dim, double theta, std::span<const float> frequency_divisors,
       compute::RopePairs pairs);
  compute::RopeTable table() const { return {cosine_, sine_, positions_, rotary_dim_, pairs_}; }

 private:
  std::vector<float> cosine_, sine_;  // (positions, rotary_dim / 2)
  int64_t positions_, rotary_dim_;
  compute::RopePairs pairs_;
};

}  // namespace neutrino::models
