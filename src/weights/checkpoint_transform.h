// Makes a tensor of the canonical form from the sources of its rule.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "weights/checkpoint_source.h"
#include "weights/layouts/layout.h"

namespace neutrino::weights {

class CanonicalTensor {
 public:
  // Throws Error where the sources do not go together or do not have the rows and columns that the rule asks for.
  CanonicalTensor(const TensorRule& rule, const Sources& sources);

  const TensorEntry& entry() const { return entry_; }
  TensorData read() const;
  TensorData read_slice(int64_t index) const;
  std::vector<float> scales() const;  // one a matrix; empty: all are 1

 private:
  int64_t matrix_bytes() const { return rows_ * row_bytes_; }
  int64_t matrices() const;
  void resolve_size(const Source& first);
  std::vector<int64_t> natural_shape(const Source& first) const;
  void set_in_place();
  // The bytes of matrix `index` of all sources in a row, written to `out`.
  void write_matrix(int64_t index, std::byte* out) const;
  TensorData source_matrix(int64_t index) const;
  void transpose_each(std::byte* bytes) const;

  TensorEntry entry_;
  Transform transform_;
  std::vector<const Source*> sources_;
  int64_t rows_ = 0, columns_ = 0, row_bytes_ = 0;  // of a matrix afterwards
};

}  // namespace neutrino::weights
