// FP8 and INT8 weights with scales: one for all, one for each output, or one for each block of outputs and inputs.
// The scale is called weight_scale_inv (DeepSeek, FP8 in blocks: it is multiplied with all the same) or weight_scale
// (compressed-tensors, ModelOpt, fbgemm).
#include <vector>

#include "weights/checkpoint_parts.h"

namespace neutrino::weights {
namespace {

using compute::DType;

bool is_scaled_type(StType type) {
  return type == StType::f8_e4m3 || type == StType::f8_e5m2 || type == StType::i8;
}

class ScaledSource final : public Source {
 public:
  ScaledSource(const StTensor& weight, const StTensor& scale, const QuantizationConfig& config)
      : weight_(&weight), scale_(&scale) {
    if (weight.shape.size() != 2 && weight.shape.size() != 3)
      throw refuse("quantization", "tensor {} must be a matrix or a stack of them, got {}",
                   in_quotes(weight.name), shape_text(weight.shape));
    shape_ = weight.shape;
    dtype_ = scale_dtype(scale);
    if (matrices() < 1 || rows() < 1 || columns() < 1)
      throw refuse("quantization", "tensor {} must not be empty, got {}", in_quotes(weight.name),
                   shape_text(shape_));
    find_blocks(config);
  }

  TensorData matrix(int64_t index) const override {
    Output out(dtype_, rows() * columns());
    for (int64_t r = 0; r < rows(); ++r)
      for (int64_t c = 0; c < columns(); ++c) {
        const float scale =
            float_at(*scale_, index * per_matrix_ + r / block_rows_ * row_stride_ + c / block_columns_);
        out.set(r * columns() + c, value((index * rows() + r) * columns() + c) * scale);
      }
    return out.data();
  }

 private:
  float value(int64_t i) const {
    if (weight_->type == StType::i8) return number_at<int8_t>(*weight_, i);
    const auto bits = number_at<uint8_t>(*weight_, i);
    return weight_->type == StType::f8_e4m3 ? compute::f8_e4m3_to_f32(bits) : compute::f8_e5m2_to_f32(bits);
  }

  // By the number of scales: for all, a matrix, an output, a block.
  void find_blocks(const QuantizationConfig& config) {
    const int64_t scales = scale_->elements();
    const int64_t block_row_count = (rows() + config.block_rows - 1) / config.block_rows;
    const int64_t block_column_count = (columns() + config.block_columns - 1) / config.block_columns;
    const bool is_grid = scale_->shape.size() >= 2 && scale_->shape.back() == block_column_count &&
                         scale_->shape[scale_->shape.size() - 2] == block_row_count;
    if (scales == 1)
      set_blocks(rows(), columns(), 0, 0);
    else if (scales == matrices() && matrices() > 1)
      set_blocks(rows(), columns(), 0, 1);
    else if (scales == matrices() * rows() &&
             (scale_->shape.back() == 1 || scale_->shape.size() < weight_->shape.size()))
      set_blocks(1, columns(), 1, rows());
    else if (is_grid && scales == matrices() * block_row_count * block_column_count)
      set_blocks(config.block_rows, config.block_columns, block_column_count,
                 block_row_count * block_column_count);
    else
      throw refuse("quantization", "tensor {} of shape {} does not fit the weights' {} in blocks of {} x {}",
                   in_quotes(scale_->name), shape_text(scale_->shape), shape_text(shape_), config.block_rows,
                   config.block_columns);
  }

  void set_blocks(int64_t block_rows, int64_t block_columns, int64_t row_stride, int64_t per_matrix) {
    block_rows_ = block_rows;
    block_columns_ = block_columns;
    row_stride_ = row_stride;
    per_matrix_ = per_matrix;
  }

  const StTensor *weight_, *scale_;
  int64_t block_rows_ = 1, block_columns_ = 1;  // that share a scale
  int64_t row_stride_ = 0, per_matrix_ = 0;     // scales from one row of blocks to the next, and of a matrix
};

// "X.weight" has its scale in "X.weight_scale", a stack "X" in "X_scale".
const StTensor* take_scale(PartFinder& parts) {
  for (const char* suffix : {"_scale_inv", "_scale"})
    if (const StTensor* scale = parts.take(suffix)) return scale;
  return nullptr;
}

// Symmetric checkpoints may keep their zero points all the same.
void check_no_zero_point(PartFinder& parts) {
  const StTensor* zero = parts.take("_zero_point");
  for (int64_t i = 0; zero && i < zero->bytes; ++i)
    if (zero->data[i] != std::byte{0})
      throw refuse("quantization", "tensor {} must be zero: asymmetric weights of 8 bits are not read",
                   in_quotes(zero->name));
}

}  // namespace

std::unique_ptr<Source> make_scaled(PartFinder& parts, const QuantizationConfig& config) {
  const StTensor* weight = parts.find("");
  if (!weight || !is_scaled_type(weight->type)) return nullptr;
  const StTensor* scale = take_scale(parts);
  if (!scale) return nullptr;
  check_no_zero_point(parts);
  return std::make_unique<ScaledSource>(*parts.take(""), *scale, config);
}

}  // namespace neutrino::weights
