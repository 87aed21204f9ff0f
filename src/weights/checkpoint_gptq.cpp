// GPTQ (Frantar et al. 2022) and AWQ (Lin et al. 2023): integers of a few bits with a scale and a zero point for each group of
// inputs, packed in 32-bit words. Layouts: GPTQModel's and AutoAWQ's packing.
//
//   GPTQ: qweight (in * bits / 32, out): a word holds consecutive inputs of one output, the lowest bits first.
//         qzeros (groups, out * bits / 32), scales (groups, out), g_idx (in): the group of each input (act-order).
//         Format "gptq" stores the zero point less one (modulo 2^bits), "gptq_v2" as it is.
//   AWQ:  qweight (in, out / 8), qzeros (groups, out / 8), scales (groups, out); a word's nibbles, the lowest first, are the
//         outputs 0, 2, 4, 6, 1, 3, 5, 7 of its eight.
//   w[out][in] = (q - zero) * scale
#include <vector>

#include "weights/checkpoint_parts.h"

namespace neutrino::weights {
namespace {

using compute::DType;

constexpr int64_t kAwqOrder[] = {0, 2, 4, 6, 1, 3, 5, 7};

class GroupedSource : public Source {
 public:
  GroupedSource(const StTensor& qweight, const StTensor& qzeros, const StTensor& scales)
      : qweight_(&qweight), qzeros_(&qzeros), scales_(&scales) {
    check_type(qweight, {StType::i32, StType::u32});
    check_type(qzeros, {StType::i32, StType::u32});
    if (qweight.shape.size() != 2 || scales.shape.size() != 2)
      throw refuse("quantization", "tensors {} and {} must be matrices", in_quotes(qweight.name),
                   in_quotes(scales.name));
    dtype_ = scale_dtype(scales);
  }

 protected:
  void check_sizes(int64_t inputs, int64_t outputs, int64_t per_word, int64_t group_size) {
    shape_ = {outputs, inputs};
    const int64_t groups = scales_->shape[0];
    const int64_t size = group_size < 1 ? inputs : group_size;
    if (inputs < 1 || outputs < 1 || groups != (inputs + size - 1) / size)
      throw refuse("quantization", "tensor {} has {} groups of {} for {} inputs", in_quotes(scales_->name),
                   groups, size, inputs);
    check_shape(*scales_, std::vector<int64_t>{groups, outputs});
    if (outputs % per_word != 0)
      throw refuse("quantization", "tensor {} must have a multiple of {} outputs, got {}",
                   in_quotes(qweight_->name), per_word, outputs);
    check_shape(*qzeros_, std::vector<int64_t>{groups, outputs / per_word});
    for (int64_t i = 0; i < inputs; ++i) group_.push_back(i / size);
  }

  const StTensor *qweight_, *qzeros_, *scales_;
  std::vector<int64_t> group_;  // of each input
};

class GptqSource final : public GroupedSource {
 public:
  GptqSource(PartFinder& parts, const QuantizationConfig& config)
      : GroupedSource(parts.require(".qweight"), parts.require(".qzeros"), parts.require(".scales")),
        bits_(config.bits),
        zero_offset_(config.checkpoint_format == "gptq_v2" ? 0 : 1) {
    if (bits_ != 2 && bits_ != 4 && bits_ != 8)
      throw make_error(ErrorCode::unimplemented,
                       "config.json: GPTQ of {} bits is not read, only of 2, 4 and 8", bits_)
          .with_reason("quantization");
    const int64_t per_word = 32 / bits_;
    check_sizes(qweight_->shape[0] * per_word, qweight_->shape[1], per_word, config.group_size);
    if (const StTensor* order = parts.take(".g_idx"); order && order->elements() > 0) read_order(*order);
  }

  TensorData matrix(int64_t) const override {
    const int64_t outputs = rows(), inputs = columns(), per_word = 32 / bits_, mask = (1 << bits_) - 1;
    Output out(dtype_, outputs * inputs);
    for (int64_t word_row = 0; word_row < inputs / per_word; ++word_row)
      for (int64_t o = 0; o < outputs; ++o) {
        uint32_t word = number_at<uint32_t>(*qweight_, word_row * outputs + o);
        for (int64_t i = word_row * per_word; i < (word_row + 1) * per_word; ++i, word >>= bits_) {
          const int64_t group = group_[static_cast<size_t>(i)];
          const int64_t q = static_cast<int64_t>(word) & mask;
          out.set(o * inputs + i,
                  static_cast<float>(q - zero(group, o)) * float_at(*scales_, group * outputs + o));
        }
      }
    return out.data();
  }

 private:
  int64_t zero(int64_t group, int64_t output) const {
    const int64_t per_word = 32 / bits_, mask = (1 << bits_) - 1;
    const auto word = number_at<uint32_t>(*qzeros_, group * (rows() / per_word) + output / per_word);
    return (static_cast<int64_t>(word >> (output % per_word * bits_)) + zero_offset_) & mask;
  }

  void read_order(const StTensor& order) {
    check_type(order, {StType::i32});
    check_shape(order, std::vector<int64_t>{columns()});
    for (int64_t i = 0; i < columns(); ++i) {
      const auto group = number_at<int32_t>(order, i);
      if (group < 0 || group >= scales_->shape[0])
        throw refuse("quantization", "tensor {} must hold groups 0-{}, got {}", in_quotes(order.name),
                     scales_->shape[0] - 1, group);
      group_[static_cast<size_t>(i)] = group;
    }
  }

  int64_t bits_, zero_offset_;
};

class AwqSource final : public GroupedSource {
 public:
  AwqSource(PartFinder& parts, const QuantizationConfig& config)
      : GroupedSource(parts.require(".qweight"), parts.require(".qzeros"), parts.require(".scales")) {
    if (config.bits != 4)
      throw make_error(ErrorCode::unimplemented, "config.json: AWQ of {} bits is not read, only of 4",
                       config.bits)
          .with_reason("quantization");
    check_sizes(qweight_->shape[0], qweight_->shape[1] * 8, 8, config.group_size);
  }

  TensorData matrix(int64_t) const override {
    const int64_t outputs = rows(), inputs = columns();
    Output out(dtype_, outputs * inputs);
    for (int64_t i = 0; i < inputs; ++i) {
      const int64_t group = group_[static_cast<size_t>(i)];
      for (int64_t w = 0; w < outputs / 8; ++w) {
        const auto word = number_at<uint32_t>(*qweight_, i * (outputs / 8) + w);
        const auto zeros = number_at<uint32_t>(*qzeros_, group * (outputs / 8) + w);
        for (int64_t k = 0; k < 8; ++k) {
          const int64_t o = w * 8 + kAwqOrder[k];
          const int q = static_cast<int>(word >> (4 * k) & 15),
                    zero = static_cast<int>(zeros >> (4 * k) & 15);
          out.set(o * inputs + i, static_cast<float>(q - zero) * float_at(*scales_, group * outputs + o));
        }
      }
    }
    return out.data();
  }
};

}  // namespace

std::unique_ptr<Source> make_gptq_or_awq(PartFinder& parts, const QuantizationConfig& config) {
  if (config.method == "gptq") return std::make_unique<GptqSource>(parts, config);
  if (config.method == "awq") return std::make_unique<AwqSource>(parts, config);
  throw refuse("quantization", "tensor {} is GPTQ's or AWQ's, but config.json's quant_method is {}",
               in_quotes(parts.base() + ".qweight"), in_quotes(config.method));
}

}  // namespace neutrino::weights
