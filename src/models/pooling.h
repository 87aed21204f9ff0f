// From hidden states to one vector a sequence.
#pragma once

#include "models/model.h"

namespace neutrino::models {

// GGUF's pooling_type of the file's architecture: 0 none, 1 mean, 2 cls, 3 last, 4 rank. Throws Error for another number.
Pooling read_pooling(const weights::WeightFile& file, Pooling fallback);

// The outermost size of a two-dimensional tensor. Throws Error that names it if it is missing or has another shape.
int64_t leading_size(const weights::WeightFile& file, std::string_view name);

// How hidden states become one row: mean, cls (the first) or last.
inline Pooling pooled_rows(const ModelConfig& config) {
  return config.pooling == Pooling::rank ? config.score_rows : config.pooling;
}

// Does the hidden state at `position` of a sequence of `length` count?
inline bool is_pooled(Pooling rows, int64_t position, int64_t length) {
  return rows == Pooling::mean || position == (rows == Pooling::cls ? 0 : length - 1);
}

// Adds hidden state `row`, the one at `position` of a sequence of `length`, to the sequence's pooled row if it counts there;
// at the sequence's last position a mean is divided. pooled and row: (columns); pooled begins as zeros.
void add_to_pool(Pooling rows, const float* row, int64_t position, int64_t length, int64_t columns,
                 float* pooled);

void l2_normalize(float* vector, int64_t columns);  // a vector of zeros stays one

}  // namespace neutrino::models
