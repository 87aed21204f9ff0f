// One tensor of a checkpoint as the rules of its layout see it: under its plain name, with its plain shape, whether it stands
// in the file like that or in the parts of a quantised one.
//
// A source is looked at matrix by matrix: a vector is a matrix of one column, (experts, rows, columns) is as many matrices as
// experts, and a convolution's (channels, 1, kernel) is one matrix.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "weights/safetensors.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

class Source {
 public:
  virtual ~Source() = default;
  compute::DType dtype() const { return dtype_; }
  const std::vector<int64_t>& shape() const { return shape_; }
  bool is_convolution() const { return shape_.size() == 3 && shape_[1] == 1; }
  int64_t matrices() const;
  int64_t rows() const;
  int64_t columns() const;

  // Matrix `index`: rows() rows of row_bytes(dtype(), columns()). Throws Error{invalid_argument} for values of a kind that no
  // weight has.
  virtual TensorData matrix(int64_t index) const = 0;
  // All matrices, where they stand in the file as they are; null: they have to be made.
  virtual const std::byte* in_place() const { return nullptr; }
  // What all weights of the matrix are multiplied with (NVFP4's second scale); not part of its bytes.
  virtual float scale(int64_t) const { return 1; }
  // Empty, or what is wrong with using it as a weight: "is of dtype I64".
  virtual std::string unusable() const { return {}; }

 protected:
  compute::DType dtype_ = compute::DType::f32;
  std::vector<int64_t> shape_;
};

using Sources = std::map<std::string, std::unique_ptr<Source>, std::less<>>;

// All of them. The parts of quantised tensors are found by the names that each scheme gives them; config.json's
// quantization_config says the rest (bits, block size). The result refers to `set`'s files.
Sources make_sources(const SafetensorsSet& set, const json::object& config);

// A tensor that stands in the file as it is: floats in place where they are aligned, everything that float32 holds decoded.
std::unique_ptr<Source> plain_source(const StTensor& tensor);

}  // namespace neutrino::weights
