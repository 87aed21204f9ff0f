#include "weights/weight_file.h"

#include <algorithm>

#include "weights/formats.h"
#include "weights/gguf.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

const TensorEntry& find_with_shape(const WeightFile& file, std::string_view name,
                                   std::vector<int64_t> shape) {
  const TensorEntry* tensor = file.find(name);
  if (!tensor)
    throw refuse("tensor_missing", "tensor {} of shape {} is missing", in_quotes(name), shape_text(shape));
  if (!std::equal(shape.begin(), shape.end(), tensor->shape.begin(), tensor->shape.end()))
    throw refuse("tensor_shape", "tensor {} must have shape {}, got {}", in_quotes(name), shape_text(shape),
                 shape_text(tensor->shape));
  return *tensor;
}

std::unique_ptr<WeightFile> open_checked(const std::filesystem::path& path, MappedFile file) {
  refuse_other_formats(path, file.bytes());
  return open_gguf(path, std::move(file));
}

}  // namespace

compute::WeightView WeightFile::matrix(std::string_view name, int64_t rows, int64_t columns) const {
  const TensorEntry& tensor = find_with_shape(*this, name, {rows, columns});
  return {tensor.data, tensor.dtype, rows, columns};
}

std::vector<float> WeightFile::vector(std::string_view name, int64_t size) const {
  const TensorEntry& tensor = find_with_shape(*this, name, {size});
  std::vector<float> values(static_cast<size_t>(size));
  compute::dequantize_row(tensor.dtype, tensor.data, size, values.data());
  return values;
}

std::unique_ptr<WeightFile> open_weight_file(const std::filesystem::path& path, Links links) {
  MappedFile file = MappedFile::open(path, links);
  try {
    return open_checked(path, std::move(file));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", path.string(), error.message()))
        .with_reason(error.reason());
  }
}

}  // namespace neutrino::weights
