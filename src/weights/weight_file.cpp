#include "weights/weight_file.h"

#include <algorithm>

#include "base/error.h"
#include "weights/checkpoint.h"
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

// "<name minus .weight>.scale": one float32 for each of `count` matrices; without it all are 1.
std::vector<float> find_scales(const WeightFile& file, std::string_view name, int64_t count) {
  constexpr std::string_view kSuffix = ".weight";
  if (name.ends_with(kSuffix)) name.remove_suffix(kSuffix.size());
  const std::string scale = fmt::format("{}.scale", name);
  if (file.find(scale) == nullptr) return std::vector<float>(static_cast<size_t>(count), 1.0f);
  return file.vector(scale, count);
}

std::unique_ptr<WeightFile> open_checked(const std::filesystem::path& path, MappedFile file, Links links) {
  switch (detect_format(path, file.bytes())) {
    case Format::safetensors: return open_checkpoint(path, links);
    case Format::gguf: break;
  }
  return open_gguf(path, std::move(file), links);
}

}  // namespace

TensorData WeightFile::read_slice(const TensorEntry& tensor, int64_t index) const {
  check(tensor.shape.size() == 3 && index >= 0 && index < tensor.shape[0],
        "read_slice: a matrix that the tensor does not have");
  TensorData all = read(tensor);
  all.data += index * (tensor.bytes / tensor.shape[0]);
  return all;
}

compute::WeightView WeightFile::matrix(std::string_view name, int64_t rows, int64_t columns) const {
  const TensorEntry& tensor = find_with_shape(*this, name, {rows, columns});
  TensorData bytes = read(tensor);
  return {.data = bytes.data,
          .dtype = tensor.dtype,
          .rows = rows,
          .columns = columns,
          .scale = find_scales(*this, name, 1)[0],
          .owner = std::move(bytes.owner),
          .tensor = tensor.name};
}

std::vector<compute::WeightView> WeightFile::matrices(std::string_view name, int64_t count, int64_t rows,
                                                      int64_t columns) const {
  const TensorEntry& tensor = find_with_shape(*this, name, {count, rows, columns});
  const std::vector<float> scales = find_scales(*this, name, count);
  std::vector<compute::WeightView> views;
  for (int64_t i = 0; i < count; ++i) {
    TensorData bytes = read_slice(tensor, i);
    views.push_back({.data = bytes.data,
                     .dtype = tensor.dtype,
                     .rows = rows,
                     .columns = columns,
                     .scale = scales[static_cast<size_t>(i)],
                     .owner = std::move(bytes.owner)});
  }
  return views;
}

std::vector<float> WeightFile::vector(std::string_view name, int64_t size) const {
  const TensorEntry* found = find(name);
  const bool is_row = found && found->shape.size() == 2 && found->shape[0] == 1;  // says the same
  const TensorEntry& tensor =
      find_with_shape(*this, name, is_row ? std::vector<int64_t>{1, size} : std::vector<int64_t>{size});
  const TensorData bytes = read(tensor);
  std::vector<float> values(static_cast<size_t>(size));
  compute::dequantize_row(tensor.dtype, bytes.data, size, values.data());
  return values;
}

std::unique_ptr<WeightFile> open_weight_file(const std::filesystem::path& path, Links links) {
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  MappedFile file = is_folder ? MappedFile() : MappedFile::open(path, links);
  try {
    return is_folder ? open_checkpoint(path, links) : open_checked(path, std::move(file), links);
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", path.string(), error.message()))
        .with_reason(error.reason());
  }
}

}  // namespace neutrino::weights
