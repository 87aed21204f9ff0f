// Hyper-parameters from a model file, each with the bounds that make sense: nothing above this file multiplies numbers that
// nobody has looked at.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "models/model.h"
#include "weights/weight_file.h"

namespace neutrino::models {

inline constexpr int64_t kHiddenMax = 1 << 20;  // of hidden and intermediate sizes
inline constexpr int64_t kHeadsMax = 1 << 12;   // of a layer; of a head's width, too

// The integer at "<architecture>.<key>", in [low, high]. Throws Error naming key, value and range. The second form has a
// fallback for an absent key.
int64_t read_size(const weights::WeightFile& file, std::string_view key, int64_t low, int64_t high);
int64_t read_size_or(const weights::WeightFile& file, std::string_view key, int64_t low, int64_t high,
                     int64_t fallback);

// The number at "<architecture>.<key>", finite and in [low, high].
double read_number(const weights::WeightFile& file, std::string_view key, double low, double high);
double read_number_or(const weights::WeightFile& file, std::string_view key, double low, double high,
                      double fallback);

bool read_flag_or(const weights::WeightFile& file, std::string_view key, bool fallback);
std::string read_text_or(const weights::WeightFile& file, std::string_view key, std::string_view fallback);

// One value for all layers or an array with one for each, as GGUF allows for head counts and such. Returns `layers` values,
// each in [low, high]; throws Error for an array of another length.
std::vector<int64_t> read_layer_sizes(const weights::WeightFile& file, std::string_view key, int64_t layers,
                                      int64_t low, int64_t high);
std::vector<int64_t> read_layer_sizes_or(const weights::WeightFile& file, std::string_view key,
                                         int64_t layers, int64_t low, int64_t high, int64_t fallback);

// The sliding window of each layer (0: it sees everything), from attention.sliding_window and
// attention.sliding_window_pattern, which is a flag a layer, or a number n: layers n - 1, 2n - 1, ... see everything
// (0: none does). `period` is that number for a file without a pattern, `fallback` the window for one without a window.
std::vector<int64_t> read_windows(const weights::WeightFile& file, int64_t layers, int64_t period,
                                  int64_t fallback = 0);

struct CommonKeys {
  std::string_view epsilon = "attention.layer_norm_rms_epsilon";
  bool per_layer =
      false;  // head counts and feed_forward_length may be arrays and 0; the config holds the largest
  bool feed_forward_optional = false;  // 0 where it is missing: a model of experts alone
  bool value_length = false;           // may differ from key_length
};

// What most decoders share: sizes, heads, context, norm epsilon, RoPE's base, vocabulary and whether the head is tied.
ModelConfig read_common_config(const weights::WeightFile& file, const CommonKeys& keys = {});

}  // namespace neutrino::models
