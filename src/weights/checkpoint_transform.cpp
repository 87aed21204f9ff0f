#include "weights/checkpoint_transform.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/checked.h"
#include "base/limits.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using compute::DType;

int64_t size_of(DType dtype) { return compute::dtype_info(dtype).block_bytes; }
bool is_plain(DType dtype) { return compute::dtype_info(dtype).block == 1; }

bool changes_values(const Transform& transform) { return transform.map != Transform::Map::none; }
bool moves_columns(const Transform& transform) {
  return transform.transpose || !transform.columns.empty() || transform.transpose_last;
}

// The same kind everywhere stays what it is; float32 where values are computed, or where a quant block would be torn apart.
DType result_dtype(std::span<const Source* const> sources, const Transform& transform) {
  const DType dtype = sources[0]->dtype();
  const bool same = std::all_of(sources.begin(), sources.end(),
                                [&](const Source* source) { return source->dtype() == dtype; });
  return same && !changes_values(transform) && (is_plain(dtype) || !moves_columns(transform)) ? dtype
                                                                                              : DType::f32;
}

void check_indices(std::span<const int64_t> indices, int64_t size, std::string_view what,
                   const std::string& name) {
  for (const int64_t index : indices)
    if (index < 0 || index >= size)
      throw refuse("tensor_shape", "tensor {}: config.json asks for {} {} of a tensor that has {}",
                   in_quotes(name), what, index, size);
}

std::shared_ptr<std::byte[]> allocate(int64_t bytes) {
  return std::shared_ptr<std::byte[]>(new std::byte[static_cast<size_t>(std::max<int64_t>(bytes, 1))]);
}

// Rows in their own type, or in float32 where that is wanted.
struct Rows {
  TensorData data;
  DType dtype;
  int64_t row_bytes;
};

Rows as_float(const Rows& from, int64_t rows, int64_t columns) {
  const auto out = allocate(rows * columns * 4);
  auto* values = reinterpret_cast<float*>(out.get());
  for (int64_t r = 0; r < rows; ++r)
    compute::dequantize_row(from.dtype, from.data.data + r * from.row_bytes, columns, values + r * columns);
  return {{out.get(), out}, DType::f32, columns * 4};
}

Rows transposed(const Rows& from, int64_t rows, int64_t columns) {
  const int64_t size = size_of(from.dtype);
  const auto out = allocate(rows * columns * size);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      std::memcpy(out.get() + (c * rows + r) * size, from.data.data + r * from.row_bytes + c * size,
                  static_cast<size_t>(size));
  return {{out.get(), out}, from.dtype, rows * size};
}

void gather_columns(const std::byte* row, std::span<const int64_t> columns, int64_t size, std::byte* out) {
  for (size_t c = 0; c < columns.size(); ++c)
    std::memcpy(out + static_cast<int64_t>(c) * size, row + columns[c] * size, static_cast<size_t>(size));
}

void map_values(Transform::Map map, float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    values[i] = map == Transform::Map::add_one ? values[i] + 1 : -std::exp(values[i]);
}

bool is_run(std::span<const int64_t> rows) {
  for (size_t i = 1; i < rows.size(); ++i)
    if (rows[i] != rows[0] + static_cast<int64_t>(i)) return false;
  return true;
}

int64_t product(std::span<const int64_t> shape, const std::string& name) {
  std::optional<int64_t> count = 1;
  for (const int64_t size : shape) {
    if (size < 1)
      throw refuse("tensor_shape", "tensor {} must not be empty, got {}", in_quotes(name), shape_text(shape));
    count = checked_mul(*count, size);
    if (!count)
      throw refuse("tensor_shape", "tensor {} of shape {} is too large", in_quotes(name), shape_text(shape));
  }
  return *count;
}

}  // namespace

CanonicalTensor::CanonicalTensor(const TensorRule& rule, const Sources& sources)
    : transform_(rule.transform) {
  entry_.name = rule.name;
  for (const std::string& name : rule.sources) {
    const auto found = sources.find(name);
    check(found != sources.end(), "Layout has seen that it is there");
    if (const std::string why = found->second->unusable(); !why.empty())
      throw refuse("tensor_type", "tensor {} {}, which is no type of weights", in_quotes(name), why);
    if (!sources_.empty() && found->second->shape() != sources_[0]->shape())
      throw refuse("tensor_shape", "tensor {} must have the shape {} of {}, got {}", in_quotes(name),
                   shape_text(sources_[0]->shape()), in_quotes(rule.sources[0]),
                   shape_text(found->second->shape()));
    sources_.push_back(found->second.get());
  }
  entry_.dtype = result_dtype(sources_, transform_);
  resolve_size(*sources_[0]);
  set_in_place();
}

void CanonicalTensor::resolve_size(const Source& first) {
  product(first.shape(), entry_.name);
  const int64_t rows = transform_.transpose ? first.columns() : first.rows();
  const int64_t columns = transform_.transpose ? first.rows() : first.columns();
  check_indices(transform_.rows, rows, "row", entry_.name);
  check_indices(transform_.columns, columns, "column", entry_.name);
  rows_ = transform_.rows.empty() ? rows : static_cast<int64_t>(transform_.rows.size());
  columns_ = transform_.columns.empty() ? columns : static_cast<int64_t>(transform_.columns.size());
  entry_.shape = transform_.shape.empty() ? natural_shape(first) : transform_.shape;
  const auto row_bytes = compute::row_bytes(entry_.dtype, columns_);
  const auto count = checked_mul(matrices(), rows_);
  const auto bytes = row_bytes && count ? checked_mul(*count, *row_bytes) : std::nullopt;
  if (!bytes || product(entry_.shape, entry_.name) != *count * columns_)
    throw refuse("tensor_shape", "tensor {} of shape {} cannot be made of {} matrices of shape ({}, {})",
                 in_quotes(entry_.name), shape_text(entry_.shape), matrices(), rows_, columns_);
  if (transform_.transpose_last) {
    check(entry_.shape.size() == 3, "transpose_last is for a tensor of three dimensions");
    std::swap(entry_.shape[1], entry_.shape[2]);
  }
  row_bytes_ = *row_bytes;
  entry_.bytes = *bytes;
}

// A stack of matrices or of vectors, a matrix, a vector.
std::vector<int64_t> CanonicalTensor::natural_shape(const Source& first) const {
  const size_t dimensions = first.shape().size();
  const bool is_stack = sources_.size() > 1 || (dimensions == 3 && !first.is_convolution());
  std::vector<int64_t> shape;
  if (is_stack) shape.push_back(matrices());
  shape.push_back(rows_);
  if (dimensions > 1) shape.push_back(columns_);
  return shape;
}

// Where nothing is to be made, or only a run of rows is wanted, the mapped file's own bytes serve.
void CanonicalTensor::set_in_place() {
  const Source& first = *sources_[0];
  if (sources_.size() > 1 || entry_.dtype != first.dtype()) return;
  if (moves_columns(transform_) || changes_values(transform_)) return;
  if (!transform_.rows.empty() && (first.matrices() > 1 || !is_run(transform_.rows))) return;
  const std::byte* bytes = first.in_place();
  if (bytes) entry_.data = bytes + (transform_.rows.empty() ? 0 : transform_.rows[0] * row_bytes_);
}

int64_t CanonicalTensor::matrices() const {
  return static_cast<int64_t>(sources_.size()) * sources_[0]->matrices();
}

TensorData CanonicalTensor::source_matrix(int64_t index) const {
  const int64_t each = sources_[0]->matrices();
  return sources_[static_cast<size_t>(index / each)]->matrix(index % each);
}

void CanonicalTensor::write_matrix(int64_t index, std::byte* out) const {
  const Source& source = *sources_[static_cast<size_t>(index / sources_[0]->matrices())];
  Rows rows{source_matrix(index), source.dtype(), *compute::row_bytes(source.dtype(), source.columns())};
  if (rows.dtype != entry_.dtype) rows = as_float(rows, source.rows(), source.columns());
  if (transform_.transpose) rows = transposed(rows, source.rows(), source.columns());
  for (int64_t r = 0; r < rows_; ++r) {
    const int64_t from = transform_.rows.empty() ? r : transform_.rows[static_cast<size_t>(r)];
    std::byte* row = out + r * row_bytes_;
    if (transform_.columns.empty())
      std::memcpy(row, rows.data.data + from * rows.row_bytes, static_cast<size_t>(row_bytes_));
    else
      gather_columns(rows.data.data + from * rows.row_bytes, transform_.columns, size_of(rows.dtype), row);
  }
  if (changes_values(transform_)) map_values(transform_.map, reinterpret_cast<float*>(out), rows_ * columns_);
}

TensorData CanonicalTensor::read() const {
  if (entry_.data) return {entry_.data};
  const auto out = allocate(entry_.bytes);
  for (int64_t i = 0; i < matrices(); ++i) write_matrix(i, out.get() + i * matrix_bytes());
  if (transform_.transpose_last) transpose_each(out.get());
  return {out.get(), out};
}

// The matrices of the canonical shape, which stand transposed in `bytes`.
void CanonicalTensor::transpose_each(std::byte* bytes) const {
  const int64_t rows = entry_.shape[2], columns = entry_.shape[1], size = size_of(entry_.dtype);
  for (int64_t i = 0; i < entry_.shape[0]; ++i) {
    std::byte* matrix = bytes + i * rows * columns * size;
    const Rows turned = transposed({{matrix}, entry_.dtype, columns * size}, rows, columns);
    std::memcpy(matrix, turned.data.data, static_cast<size_t>(rows * columns * size));
  }
}

// A slice of the canonical tensor need not be one of the sources' matrices, where the rule says another shape.
TensorData CanonicalTensor::read_slice(int64_t index) const {
  check(entry_.shape.size() == 3 && index >= 0 && index < entry_.shape[0], "the tensor has such a slice");
  const int64_t bytes = entry_.bytes / entry_.shape[0];
  if (entry_.data) return {entry_.data + index * bytes};
  if (entry_.shape[0] != matrices() || transform_.transpose_last) {
    const TensorData all = read();
    return {all.data + index * bytes, all.owner};
  }
  const auto out = allocate(bytes);
  write_matrix(index, out.get());
  return {out.get(), out};
}

std::vector<float> CanonicalTensor::scales() const {
  std::vector<float> scales;
  for (const Source* source : sources_)
    for (int64_t i = 0; i < source->matrices(); ++i) scales.push_back(source->scale(i));
  return scales;
}

}  // namespace neutrino::weights
