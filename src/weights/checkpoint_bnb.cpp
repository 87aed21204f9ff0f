// bitsandbytes (Dettmers et al. 2023, QLoRA): four bits that stand for one of 16 values, times the largest magnitude of their
// block.
//
//   weight U8: two a byte, the first in the high bits, in the order of the plain tensor's values
//   weight.quant_map (16), weight.absmax (blocks): F32, or with double quantisation U8 that stand for nested_quant_map's (256)
//   values, times weight.nested_absmax of their own block, plus nested_offset
//   weight.quant_state.bitsandbytes__nf4 (or __fp4): a JSON text in U8 with shape, blocksize, dtype and those of the absmax
#include <cmath>
#include <vector>

#include "weights/checkpoint_parts.h"

namespace neutrino::weights {
namespace {

using compute::DType;

int64_t integer_field(const json::object& state, std::string_view name) {
  const json::value* value = state.if_contains(name);
  if (!value || !value->is_int64() || value->get_int64() < 1 || value->get_int64() > int64_t{1} << 40)
    throw refuse("quantization", "a quant_state of bitsandbytes must have a positive {}", name);
  return value->get_int64();
}

json::object read_state(const StTensor& tensor) {
  check_type(tensor, {StType::u8});
  const json::value state =
      parse_json({reinterpret_cast<const char*>(tensor.data), static_cast<size_t>(tensor.bytes)});
  if (!state.is_object())
    throw refuse("quantization", "tensor {} must hold a JSON object", in_quotes(tensor.name));
  return state.get_object();
}

std::vector<int64_t> read_shape(const json::object& state) {
  const json::value* list = state.if_contains("shape");
  if (!list || !list->is_array() || list->get_array().size() != 2)
    throw refuse("quantization", "a quant_state of bitsandbytes must have a shape of two numbers");
  std::vector<int64_t> shape;
  for (const json::value& size : list->get_array()) {
    if (!size.is_int64() || size.get_int64() < 1 || size.get_int64() > int64_t{1} << 31)
      throw refuse("quantization", "a quant_state of bitsandbytes has the shape {}",
                   printable(to_text(*list), 40));
    shape.push_back(size.get_int64());
  }
  return shape;
}

DType read_dtype(const json::object& state) {
  const json::value* value = state.if_contains("dtype");
  const std::string_view name =
      value && value->is_string() ? std::string_view(value->get_string()) : std::string_view();
  if (name == "float32") return DType::f32;
  if (name == "float16") return DType::f16;
  if (name == "bfloat16") return DType::bf16;
  throw refuse("quantization", "a quant_state of bitsandbytes has the dtype {}", in_quotes(name));
}

std::vector<float> table(const StTensor& tensor, int64_t size) {
  check_type(tensor, {StType::f32});
  check_shape(tensor, std::vector<int64_t>{size});
  return floats_of(tensor);
}

class BnbSource final : public Source {
 public:
  BnbSource(PartFinder& parts, const StTensor& state_tensor) : weight_(&parts.require(".weight")) {
    const json::object state = read_state(state_tensor);
    shape_ = read_shape(state);
    dtype_ = read_dtype(state);
    block_ = integer_field(state, "blocksize");
    map_ = table(parts.require(".weight.quant_map"), 16);
    check_type(*weight_, {StType::u8});
    const int64_t elements = rows() * columns();
    if (weight_->bytes != (elements + 1) / 2)
      throw refuse("quantization", "tensor {} must have {} bytes for {} weights, got {}",
                   in_quotes(weight_->name), (elements + 1) / 2, elements, weight_->bytes);
    absmax_ = &parts.require(".weight.absmax");
    check_shape(*absmax_, std::vector<int64_t>{(elements + block_ - 1) / block_});
    if (absmax_->type == StType::u8)
      read_nested(parts, state);
    else
      check_type(*absmax_, {StType::f32});
  }

  TensorData matrix(int64_t) const override {
    const int64_t elements = rows() * columns();
    Output out(dtype_, elements);
    for (int64_t i = 0; i < elements; ++i) {
      const auto byte = number_at<uint8_t>(*weight_, i / 2);
      out.set(i, map_[i % 2 == 0 ? byte >> 4 : byte & 15] * magnitude(i / block_));
    }
    return out.data();
  }

 private:
  void read_nested(PartFinder& parts, const json::object& state) {
    nested_block_ = integer_field(state, "nested_blocksize");
    nested_map_ = table(parts.require(".weight.nested_quant_map"), 256);
    nested_absmax_ = &parts.require(".weight.nested_absmax");
    check_type(*nested_absmax_, {StType::f32});
    check_shape(*nested_absmax_,
                std::vector<int64_t>{(absmax_->elements() + nested_block_ - 1) / nested_block_});
    const json::value* offset = state.if_contains("nested_offset");
    json::error_code error;
    nested_offset_ = offset ? static_cast<float>(offset->to_number<double>(error)) : 0.0f;
    if (!offset || error || !std::isfinite(nested_offset_))
      throw refuse("quantization", "a quant_state of bitsandbytes must have a nested_offset");
  }

  float magnitude(int64_t block) const {
    if (nested_block_ == 0) return number_at<float>(*absmax_, block);
    const float scale = number_at<float>(*nested_absmax_, block / nested_block_);
    return nested_map_[number_at<uint8_t>(*absmax_, block)] * scale + nested_offset_;
  }

  const StTensor *weight_, *absmax_ = nullptr, *nested_absmax_ = nullptr;
  int64_t block_ = 0, nested_block_ = 0;  // 0: the magnitudes are not quantised
  std::vector<float> map_, nested_map_;
  float nested_offset_ = 0;
};

}  // namespace

std::unique_ptr<Source> make_bnb(PartFinder& parts, const QuantizationConfig&) {
  for (const char* state : {".weight.quant_state.bitsandbytes__nf4", ".weight.quant_state.bitsandbytes__fp4"})
    if (const StTensor* tensor = parts.take(state)) return std::make_unique<BnbSource>(parts, *tensor);
  return nullptr;
}

}  // namespace neutrino::weights
