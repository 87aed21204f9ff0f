// Loops over one row of logits: four vectors of four floats side by side, that is sixteen lanes whatever the CPU, and a fixed
// order of adding them up.
#pragma once

#include <cstdint>
#include <span>

#include "chat/chat_model.h"

namespace neutrino::engine {

struct RowExtent {
  float maximum = 0;
  bool finite = true;  // no NaN, no infinity
};
RowExtent row_extent(std::span<const float> row);

// The lowest id whose logit equals `value`.
int32_t first_equal(std::span<const float> row, float value);

// Sum of exp((x - maximum) * scale). The second form keeps the terms.
double sum_of_exponentials(std::span<const float> row, float maximum, float scale);
double sum_of_exponentials(std::span<const float> row, float maximum, float scale, std::span<float> terms);

// The largest, best first; of equals the lowest id first.
void best_of_row(std::span<const float> row, std::span<chat::TokenLogprob> best);

// exp(x) for x <= 0 with a relative error below 2e-7; 0 below -87.
float exp_negative(float x);
// The natural logarithm of x in [1, 2^60], without libm.
double log_positive(double x);

}  // namespace neutrino::engine
