#include "models/pooling.h"

#include <cmath>

#include "base/error.h"
#include "models/layers.h"

namespace neutrino::models {

Pooling read_pooling(const weights::WeightFile& file, Pooling fallback) {
  return static_cast<Pooling>(read_size_or(file, "pooling_type", 0, 4, static_cast<int64_t>(fallback)));
}

int64_t leading_size(const weights::WeightFile& file, std::string_view name) {
  const weights::TensorEntry* tensor = file.find(name);
  if (tensor == nullptr || tensor->shape.size() != 2)
    throw make_error(ErrorCode::invalid_argument, "the model file needs a two-dimensional {}", name);
  return tensor->shape[0];
}

void add_to_pool(Pooling rows, const float* row, int64_t position, int64_t length, int64_t columns,
                 float* pooled) {
  if (!is_pooled(rows, position, length)) return;
  for (int64_t c = 0; c < columns; ++c) pooled[c] += row[c];
  if (rows != Pooling::mean || position != length - 1) return;
  for (int64_t c = 0; c < columns; ++c) pooled[c] /= static_cast<float>(length);
}

void l2_normalize(float* vector, int64_t columns) {
  double squares = 0;
  for (int64_t c = 0; c < columns; ++c) squares += double{vector[c]} * vector[c];
  if (squares == 0) return;
  const double factor = 1 / std::sqrt(squares);
  for (int64_t c = 0; c < columns; ++c) vector[c] = static_cast<float>(vector[c] * factor);
}

}  // namespace neutrino::models
