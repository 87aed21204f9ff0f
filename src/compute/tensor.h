// Views of memory that somebody else owns.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "compute/dtype.h"

namespace neutrino::compute {

// float32 rows: the backend's scratch for activations, a model's norm weights.
struct Tensor {
  float* data = nullptr;  // row r, column c at data[r * stride + c]
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t stride = 0;  // elements from one row to the next, >= columns

  float* row(int64_t r) const { return data + r * stride; }
};

// Columns [first, first + count) of x.
inline Tensor columns(const Tensor& x, int64_t first, int64_t count) {
  return {.data = x.data + first, .rows = x.rows, .columns = count, .stride = x.stride};
}

// Rows in the form that a matrix product wants, made once and read by every product: float32 in exact arithmetic, 15-bit
// integers with one scale a row in integer arithmetic. The bytes belong to the backend's scratch.
struct Activation {
  std::byte* data = nullptr;
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t row_bytes = 0;
};

// A matrix as it stands in a weight file: row-major (rows = out features, columns = in features). `data` lives as long as
// `owner`, or without one as long as the file is mapped.
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  int64_t rows = 0;
  int64_t columns = 0;
  float scale = 1;  // of all weights (NVFP4's second scale): results are multiplied with it
  std::shared_ptr<const void> owner = {};
  // The tensor that this is, from its row `first_row` on: what adapters call it. Empty where products with it are not over all
  // rows of a batch.
  std::string tensor = {};
  int64_t first_row = 0;
};

}  // namespace neutrino::compute
