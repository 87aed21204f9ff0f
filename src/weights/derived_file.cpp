#include "weights/derived_file.h"

#include <algorithm>
#include <numeric>

#include "compute/quantize.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using compute::DType;

constexpr std::string_view kWeight = ".weight";

std::string scale_name(std::string_view tensor) {
  return std::string(tensor.substr(0, tensor.size() - kWeight.size())) + ".scale";
}

}  // namespace

std::vector<float> read_values(const WeightFile& file, const TensorEntry& tensor) {
  const int64_t columns = tensor.shape.back(), stride = *compute::row_bytes(tensor.dtype, columns);
  const int64_t rows = tensor.bytes / stride;
  const TensorData data = file.read(tensor);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    compute::dequantize_row(tensor.dtype, data.data + r * stride, columns, values.data() + r * columns);
  const TensorEntry* scale = tensor.name.ends_with(kWeight) ? file.find(scale_name(tensor.name)) : nullptr;
  if (!scale) return values;
  const std::vector<float> scales = file.vector(scale->name, scale->shape.back());
  const int64_t rows_per_scale = std::max<int64_t>(1, rows / std::ssize(scales));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c) values[r * columns + c] *= scales[r / rows_per_scale];
  return values;
}

std::vector<std::byte> encode_values(std::string_view tensor, const std::vector<float>& values,
                                     int64_t columns, DType dtype) {
  const int64_t rows = std::ssize(values) / columns, stride = *compute::row_bytes(dtype, columns);
  std::vector<std::byte> bytes(static_cast<size_t>(rows * stride));
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t bad =
        compute::quantize_weights(dtype, values.data() + r * columns, columns, bytes.data() + r * stride);
    if (bad >= 0)
      throw refuse("tensor_value", "row {}, column {} of tensor {} is {}, which {} cannot hold", r, bad,
                   tensor, values[r * columns + bad], compute::dtype_info(dtype).name);
  }
  return bytes;
}

DerivedFile::DerivedFile(const WeightFile& base, std::map<std::string, Maker> makers, DerivedTypes types)
    : base_(base), makers_(std::move(makers)) {
  std::vector<std::string> folded;  // second scales that are part of the new values
  for (const auto& [name, maker] : makers_)
    if (name.ends_with(kWeight)) folded.push_back(scale_name(name));
  for (TensorEntry entry : base.tensors()) {
    if (std::ranges::find(folded, entry.name) != folded.end()) continue;
    if (makers_.contains(entry.name)) {
      if (types == DerivedTypes::float32 || entry.dtype == DType::nvfp4)
        entry.dtype = DType::f32;
      else if (!compute::can_quantize_to(entry.dtype))
        entry.dtype = DType::f16;
      entry.data = nullptr;
      const int64_t rows =
          std::accumulate(entry.shape.begin(), entry.shape.end() - 1, int64_t{1}, std::multiplies<>());
      entry.bytes = *compute::matrix_bytes(entry.dtype, rows, entry.shape.back());
    }
    entries_.push_back(std::move(entry));
  }
}

const TensorEntry* DerivedFile::find(std::string_view name) const {
  const auto found = std::ranges::find(entries_, name, &TensorEntry::name);
  return found == entries_.end() ? nullptr : &*found;
}

TensorData DerivedFile::read_slice(const TensorEntry& tensor, int64_t index) const {
  if (makers_.contains(tensor.name)) return WeightFile::read_slice(tensor, index);
  return base_.read_slice(*base_.find(tensor.name), index);
}

TensorData DerivedFile::read(const TensorEntry& tensor) const {
  const auto maker = makers_.find(tensor.name);
  if (maker == makers_.end()) return base_.read(*base_.find(tensor.name));
  const std::vector<float> values = maker->second();
  auto bytes = std::make_shared<std::vector<std::byte>>(
      encode_values(tensor.name, values, tensor.shape.back(), tensor.dtype));
  check(std::ssize(*bytes) == tensor.bytes, "a maker gives as many values as the tensor has");
  return {bytes->data(), bytes};
}

}  // namespace neutrino::weights
