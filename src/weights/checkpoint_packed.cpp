// compressed-tensors' "pack-quantized": integers of a few bits, packed along the inputs in 32-bit words, the lowest bits first,
// with 2^(bits - 1) added.
//
//   weight_packed (out, in * bits / 32), weight_scale (out, groups) or (out, 1) or (1), weight_shape (out, in)
//   weight_zero_point, where it is not symmetric: packed likewise along the outputs, (out * bits / 32, groups), or as it is, I8
//   weight_g_idx (in): the group of each input (act-order); -1: in their order
//   w[out][in] = (q - zero) * scale
#include <vector>

#include "weights/checkpoint_parts.h"

namespace neutrino::weights {
namespace {

// Element i of a row of words; elements may stand across two words.
int64_t bits_at(const StTensor& words, int64_t row, int64_t words_per_row, int64_t i, int64_t bits) {
  const int64_t bit = i * bits;
  const int64_t word = row * words_per_row + bit / 32, shift = bit % 32;
  uint64_t value = number_at<uint32_t>(words, word);
  if (shift + bits > 32) value |= uint64_t{number_at<uint32_t>(words, word + 1)} << 32;
  return static_cast<int64_t>(value >> shift) & ((int64_t{1} << bits) - 1);
}

int64_t words_for(int64_t elements, int64_t bits) { return (elements * bits + 31) / 32; }

class PackedSource final : public Source {
 public:
  explicit PackedSource(PartFinder& parts)
      : packed_(&parts.require(".weight_packed")),
        scale_(&parts.require(".weight_scale")),
        zero_(parts.take(".weight_zero_point")) {
    check_type(*packed_, {StType::i32, StType::u32});
    dtype_ = scale_dtype(*scale_);
    read_shape(parts.require(".weight_shape"));
    find_bits();
    find_groups();
    if (zero_) check_zeros();
    if (const StTensor* order = parts.take(".weight_g_idx")) read_order(*order);
  }

  TensorData matrix(int64_t) const override {
    const int64_t outputs = rows(), inputs = columns(), words = packed_->shape[1];
    Output out(dtype_, outputs * inputs);
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < inputs; ++i) {
        const int64_t group = group_[static_cast<size_t>(i)];
        const int64_t q = bits_at(*packed_, o, words, i, bits_) - (int64_t{1} << (bits_ - 1));
        out.set(o * inputs + i,
                static_cast<float>(q - zero_point(o, group)) * float_at(*scale_, scale_index(o, group)));
      }
    return out.data();
  }

 private:
  void read_shape(const StTensor& shape) {
    check_type(shape, {StType::i64, StType::i32});
    check_shape(shape, std::vector<int64_t>{2});
    for (int64_t i = 0; i < 2; ++i)
      shape_.push_back(shape.type == StType::i64 ? number_at<int64_t>(shape, i)
                                                 : number_at<int32_t>(shape, i));
    if (packed_->shape.size() != 2 || shape_[0] != packed_->shape[0] || shape_[1] < 1 ||
        shape_[1] / 32 > packed_->shape[1])
      throw refuse("quantization", "tensor {} of shape {} cannot be packed in {}", in_quotes(shape.name),
                   shape_text(shape_), shape_text(packed_->shape));
  }

  void find_bits() {
    for (const int64_t bits : {4, 8, 2, 3, 5, 6, 7, 1})
      if (words_for(columns(), bits) == packed_->shape[1]) {
        bits_ = bits;
        return;
      }
    throw refuse("quantization", "tensor {} of shape {} packs {} inputs in no number of bits",
                 in_quotes(packed_->name), shape_text(packed_->shape), columns());
  }

  void find_groups() {
    const std::vector<int64_t>& shape = scale_->shape;
    const bool is_grid = shape.size() == 2 && shape[0] == rows() && shape[1] >= 1;
    if (!is_grid && scale_->elements() != 1)
      throw refuse("quantization", "tensor {} must have a row for each of {} outputs, got {}",
                   in_quotes(scale_->name), rows(), shape_text(shape));
    groups_ = is_grid ? shape[1] : 1;
    per_output_ = is_grid;
    if (columns() % groups_ != 0)
      throw refuse("quantization", "tensor {} has {} groups for {} inputs", in_quotes(scale_->name), groups_,
                   columns());
    const int64_t size = columns() / groups_;
    for (int64_t i = 0; i < columns(); ++i) group_.push_back(i / size);
  }

  void check_zeros() {
    check_type(*zero_, {StType::i32, StType::u32, StType::i8});
    if (zero_->type == StType::i8)
      check_shape(*zero_, scale_->shape);
    else
      check_shape(*zero_, std::vector<int64_t>{words_for(rows(), bits_), groups_});
  }

  // -1 everywhere: the writer did not reorder.
  void read_order(const StTensor& order) {
    check_type(order, {StType::i32});
    check_shape(order, std::vector<int64_t>{columns()});
    if (number_at<int32_t>(order, 0) == -1) return;
    for (int64_t i = 0; i < columns(); ++i) {
      const auto group = number_at<int32_t>(order, i);
      if (group < 0 || group >= groups_)
        throw refuse("quantization", "tensor {} must hold groups 0-{}, got {}", in_quotes(order.name),
                     groups_ - 1, group);
      group_[static_cast<size_t>(i)] = group;
    }
  }

  int64_t scale_index(int64_t output, int64_t group) const {
    return per_output_ ? output * groups_ + group : 0;
  }

  int64_t zero_point(int64_t output, int64_t group) const {
    if (!zero_) return 0;
    if (zero_->type == StType::i8) return number_at<int8_t>(*zero_, scale_index(output, group));
    const int64_t bit = output * bits_, word = bit / 32, shift = bit % 32;  // words run down the outputs
    uint64_t value = number_at<uint32_t>(*zero_, word * groups_ + group);
    if (shift + bits_ > 32)
      value |= uint64_t{number_at<uint32_t>(*zero_, (word + 1) * groups_ + group)} << 32;
    return (static_cast<int64_t>(value >> shift) & ((int64_t{1} << bits_) - 1)) - (int64_t{1} << (bits_ - 1));
  }

  const StTensor *packed_, *scale_, *zero_;
  int64_t bits_ = 0, groups_ = 0;
  bool per_output_ = false;
  std::vector<int64_t> group_;  // of each input
};

}  // namespace

std::unique_ptr<Source> make_packed(PartFinder& parts, const QuantizationConfig&) {
  return std::make_unique<PackedSource>(parts);
}

}  // namespace neutrino::weights
