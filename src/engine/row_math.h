// Loops over one row of logits, or a piece of it: four vectors of four floats side by side, that is sixteen lanes whatever the
// CPU, and a fixed order of adding them up.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "chat/chat_model.h"

namespace neutrino::engine {

struct RowExtent {
  float maximum = 0;
  bool finite = true;  // no NaN, no infinity
};
RowExtent row_extent(std::span<const float> row);

// The lowest index at which `row` equals `value`; row.size() if none does.
int32_t first_equal(std::span<const float> row, float value);

// A row's sum is made of runs of so many elements, each summed in float32, which are added up in double; what does not fill
// sixteen lanes at its end is a run of its own.
inline constexpr size_t kSumRun = 4096;

// Sums of exp((x - maximum) * scale), run by run, into the first of `sums`. `terms`, unless it is empty, gets the terms.
void exponentials(std::span<const float> row, float maximum, float scale, std::span<double> sums,
                  std::span<float> terms);

// How many weights of a piece of a row are at least `least`, and their sum (of runs in float32).
struct WeightTier {
  float least = 0;
  int64_t count = 0;
  double mass = 0;
};
void add_to_tiers(std::span<const float> weights, std::span<WeightTier> tiers);

double sum_in_double(std::span<const float> terms);  // in eight lanes

// The sum of `terms`, as many as are a multiple of sixteen, in sixteen float32 lanes.
double sum_in_lanes(std::span<const float> terms);

struct Candidate {
  float logit = 0;
  int32_t token = 0;
};
// Writes those of at least `least`, ascending by id, into `out`, which has room for all; returns how many. `first`: the id of
// row[0].
size_t take_at_least(std::span<const float> row, int32_t first, float least, std::span<Candidate> out);

// The largest, best first; of equals the lowest id first. `first`: the id of row[0].
void best_of_row(std::span<const float> row, int32_t first, std::span<chat::TokenLogprob> best);
// Merges the best of a piece of a row into those of all pieces before it.
void merge_best(std::span<const chat::TokenLogprob> piece, std::span<chat::TokenLogprob> best);

// exp(x) for x <= 0 with a relative error below 2e-7; 0 below -87.
float exp_negative(float x);
// The natural logarithm of x in [1, 2^60], without libm.
double log_positive(double x);

}  // namespace neutrino::engine
