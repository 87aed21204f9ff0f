// Several models of one shape become one.
//
//   linear  the weighted mean of the models' weights
//   slerp   between two models on the arc instead of the chord (Shoemake 1985): t from the first (0) to the second (1)
//   ties    base + scale * the task vectors (model - base), each trimmed to its largest `density`, where the sign that has more
//           weight behind it wins and the mean is taken of those that agree (Yadav et al. 2023)
//   dare    base + scale * the task vectors, of whose elements a random `density` is kept and divided by it (Yu et al. 2024)
//
// The arithmetic is float64, rounded once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "weights/derived_file.h"

namespace neutrino::weights {

enum class MergeMethod { linear, slerp, ties, dare };
MergeMethod merge_method_named(std::string_view name);  // throws Error{invalid_argument} that lists them

struct MergeOptions {
  MergeMethod method = MergeMethod::linear;
  std::vector<double> weights = {};  // one a model; empty: all 1. linear divides by their sum
  double t = 0.5;                    // slerp
  double density = 0.5;              // ties, dare: of a task vector, in (0, 1]
  double scale = 1;                  // ties, dare: of the merged task vector
  uint64_t seed = 0;                 // dare
  DerivedTypes types = DerivedTypes::as_base;
};

// `models` and, for ties and dare, `base` outlive the result, whose keys, vocabulary and types are the base's or else the
// first model's. Throws Error that names what differs: architecture, a tensor's presence or shape; and wrong options.
std::unique_ptr<WeightFile> merge_models(const WeightFile* base, std::span<const WeightFile* const> models,
                                         const MergeOptions& options);

}  // namespace neutrino::weights
