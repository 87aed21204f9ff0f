// What the schemes of quantised checkpoints share: finding the parts of a tensor, checking them, reading and writing numbers.
#pragma once

#include <cstring>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "compute/dtype.h"
#include "weights/checkpoint_quantized.h"
#include "weights/reader.h"

namespace neutrino::weights {

// config.json's quantization_config; its fields have defaults, as writers leave out what is usual.
struct QuantizationConfig {
  std::string method;             // "gptq"; empty: the checkpoint says nothing
  std::string checkpoint_format;  // GPTQ: "gptq" or "gptq_v2"
  int64_t bits = 4;
  int64_t group_size = 128;                       // -1: one group over the whole input
  int64_t block_rows = 128, block_columns = 128;  // FP8 in blocks
};

// The parts of one tensor: base + suffix.
class PartFinder {
 public:
  PartFinder(Parts& parts, std::string base) : parts_(parts), base_(std::move(base)) {}
  const std::string& base() const { return base_; }
  const StTensor* find(std::string_view suffix) const;  // stays where it is
  const StTensor* take(std::string_view suffix);        // nullptr: not there
  const StTensor& require(std::string_view suffix);     // throws Error that names it

 private:
  Parts& parts_;
  std::string base_;
};

// Throw Error{invalid_argument, "quantization"} that names the tensor.
void check_type(const StTensor& tensor, std::initializer_list<StType> types);
void check_shape(const StTensor& tensor, std::span<const int64_t> shape);
compute::DType scale_dtype(const StTensor& scales);  // f32, f16 or bf16

template <typename T>
T number_at(const StTensor& tensor, int64_t i) {
  T value;
  std::memcpy(&value, tensor.data + i * static_cast<int64_t>(sizeof value), sizeof value);
  return value;
}
float float_at(const StTensor& tensor, int64_t i);  // of F32, F16, BF16
std::vector<float> floats_of(const StTensor& tensor);

// Rows of values in f32, f16 or bf16, each rounded once.
class Output {
 public:
  Output(compute::DType dtype, int64_t elements);
  void set(int64_t i, float value) {
    if (dtype_ == compute::DType::f32)
      std::memcpy(bytes_.get() + i * 4, &value, 4);
    else
      set_half(i, dtype_ == compute::DType::f16 ? compute::f32_to_f16(value) : compute::f32_to_bf16(value));
  }
  TensorData data() const { return {bytes_.get(), bytes_}; }

 private:
  void set_half(int64_t i, uint16_t bits) { std::memcpy(bytes_.get() + i * 2, &bits, 2); }

  compute::DType dtype_;
  std::shared_ptr<std::byte[]> bytes_;
};

// The schemes. Each returns nullptr where the part it was found by belongs to another.
using MakeSource = std::unique_ptr<Source> (*)(PartFinder& parts, const QuantizationConfig& config);
std::unique_ptr<Source> make_gptq_or_awq(PartFinder& parts, const QuantizationConfig& config);  // X.qweight
std::unique_ptr<Source> make_packed(PartFinder& parts, const QuantizationConfig& config);  // X.weight_packed
std::unique_ptr<Source> make_fp4(PartFinder& parts,
                                 const QuantizationConfig& config);  // X.weight_packed, X.weight
std::unique_ptr<Source> make_mxfp4_blocks(PartFinder& parts, const QuantizationConfig& config);  // X_blocks
std::unique_ptr<Source> make_bnb(PartFinder& parts, const QuantizationConfig& config);           // X.weight
std::unique_ptr<Source> make_scaled(PartFinder& parts, const QuantizationConfig& config);        // X

}  // namespace neutrino::weights
