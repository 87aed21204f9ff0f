// Four-bit floats with a scale for each block of inputs, which GGUF has types for: the same bits in another order.
//
//   MXFP4 of gpt-oss: X_blocks (..., out, in / 32, 16) U8, X_scales (..., out, in / 32) U8: the exponent of a power of two
//   compressed-tensors: weight_packed (out, in / 2) U8, weight_scale (out, in / 32) U8 [MXFP4], or
//     (out, in / 16) E4M3 and weight_global_scale (1), which it is divided by [NVFP4]
//   ModelOpt's NVFP4: weight (out, in / 2) U8, weight_scale (out, in / 16) E4M3, weight_scale_2 (1), which it is multiplied with
// A byte holds two weights, the first in its low bits.
#include <cmath>
#include <vector>

#include "weights/checkpoint_parts.h"

namespace neutrino::weights {
namespace {

using compute::DType;

uint8_t nibble_at(const std::byte* bytes, int64_t i) {
  const auto byte = std::to_integer<uint8_t>(bytes[i / 2]);
  return i % 2 == 0 ? byte & 15 : byte >> 4;
}

// Byte j of a run of n weights holds weight j in its low bits and weight j + n/2 in its high bits.
void write_halves(const std::byte* from, int64_t first, int64_t count, std::byte* out) {
  for (int64_t j = 0; j < count / 2; ++j)
    out[j] = static_cast<std::byte>(nibble_at(from, first + j) | nibble_at(from, first + count / 2 + j) << 4);
}

class Fp4Source : public Source {
 public:
  Fp4Source(const StTensor& packed, const StTensor& scales, std::vector<int64_t> shape, DType dtype,
            int64_t block)
      : packed_(&packed), scales_(&scales), block_(block) {
    shape_ = std::move(shape);
    dtype_ = dtype;
    check_type(packed, {StType::u8});
    if (matrices() < 1 || rows() < 1 || columns() < 1 || columns() % block != 0)
      throw refuse("quantization", "tensor {} must have whole blocks of {} inputs, got {}",
                   in_quotes(packed.name), block, shape_text(shape_));
  }

 protected:
  const std::byte* packed_row(int64_t row) const { return packed_->data + row * columns() / 2; }
  uint8_t scale_bits(int64_t row, int64_t block) const {
    return number_at<uint8_t>(*scales_, row * (columns() / block_) + block);
  }

  const StTensor *packed_, *scales_;
  int64_t block_;  // weights that share a scale
};

class Mxfp4Source final : public Fp4Source {
 public:
  Mxfp4Source(const StTensor& packed, const StTensor& scales, std::vector<int64_t> shape)
      : Fp4Source(packed, scales, std::move(shape), DType::mxfp4, 32) {
    check_type(scales, {StType::u8, StType::f8_e8m0});
  }

  TensorData matrix(int64_t index) const override {
    const int64_t blocks = columns() / 32, block_bytes = compute::dtype_info(dtype_).block_bytes;
    const std::shared_ptr<std::byte[]> out(new std::byte[static_cast<size_t>(rows() * blocks * block_bytes)]);
    for (int64_t r = 0; r < rows(); ++r)
      for (int64_t b = 0; b < blocks; ++b) {
        std::byte* block = out.get() + (r * blocks + b) * block_bytes;
        block[0] = static_cast<std::byte>(scale_bits(index * rows() + r, b));
        write_halves(packed_row(index * rows() + r), b * 32, 32, block + 1);
      }
    return {out.get(), out};
  }
};

// GGUF puts four blocks of 16 together. Rows that four do not divide become float32, scale and all.
class Nvfp4Source final : public Fp4Source {
 public:
  Nvfp4Source(const StTensor& packed, const StTensor& scales, float scale, std::vector<int64_t> shape)
      : Fp4Source(packed, scales, std::move(shape), DType::nvfp4, 16), scale_(scale) {
    check_type(scales, {StType::f8_e4m3});
    check_shape(scales, std::vector<int64_t>{rows(), columns() / 16});
    if (!std::isfinite(scale_) || scale_ <= 0)
      throw refuse("quantization", "the second scale of {} must be positive and finite, got {}",
                   in_quotes(packed.name), scale_);
    if (columns() % 64 != 0) dtype_ = DType::f32;
  }

  float scale(int64_t) const override { return dtype_ == DType::nvfp4 ? scale_ : 1; }
  TensorData matrix(int64_t) const override { return dtype_ == DType::nvfp4 ? packed_blocks() : values(); }

 private:
  // GGUF's scales have no sign.
  uint8_t positive_scale_bits(int64_t row, int64_t block) const {
    const uint8_t bits = scale_bits(row, block);
    if (bits >= 0x7f && bits != 0x80)
      throw refuse("quantization", "tensor {} must hold scales that are not negative, got the bits {:#x}",
                   in_quotes(scales_->name), bits);
    return bits & 0x7f;
  }

  TensorData packed_blocks() const {
    const int64_t blocks = columns() / 64, block_bytes = compute::dtype_info(dtype_).block_bytes;
    const std::shared_ptr<std::byte[]> out(new std::byte[static_cast<size_t>(rows() * blocks * block_bytes)]);
    for (int64_t r = 0; r < rows(); ++r)
      for (int64_t b = 0; b < blocks * 4; ++b) {
        std::byte* block = out.get() + (r * blocks + b / 4) * block_bytes;
        block[b % 4] = static_cast<std::byte>(positive_scale_bits(r, b));
        write_halves(packed_row(r), b * 16, 16, block + 4 + b % 4 * 8);
      }
    return {out.get(), out};
  }

  TensorData values() const {
    static constexpr float kValues[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};  // E2M1
    Output out(dtype_, rows() * columns());
    for (int64_t r = 0; r < rows(); ++r)
      for (int64_t c = 0; c < columns(); ++c) {
        const uint8_t nibble = nibble_at(packed_row(r), c);
        const float block_scale = compute::f8_e4m3_to_f32(positive_scale_bits(r, c / 16));
        out.set(r * columns() + c, (nibble & 8 ? -1 : 1) * kValues[nibble & 7] * block_scale * scale_);
      }
    return out.data();
  }

  float scale_;
};

float one_float(const StTensor& tensor) {
  scale_dtype(tensor);
  if (tensor.elements() != 1)
    throw refuse("quantization", "tensor {} must be one number, got {}", in_quotes(tensor.name),
                 shape_text(tensor.shape));
  return float_at(tensor, 0);
}

// Two weights a byte along the inputs.
std::vector<int64_t> unpacked_shape(const StTensor& packed) {
  if (packed.shape.size() != 2)
    throw refuse("quantization", "tensor {} must be a matrix, got {}", in_quotes(packed.name),
                 shape_text(packed.shape));
  return {packed.shape[0], packed.shape[1] * 2};
}

std::unique_ptr<Source> make_nvfp4(PartFinder& parts, std::string_view packed_suffix, const StTensor& second,
                                   bool is_divisor) {
  const float scale = is_divisor ? 1 / one_float(second) : one_float(second);
  const StTensor& packed = parts.require(packed_suffix);
  return std::make_unique<Nvfp4Source>(packed, parts.require(".weight_scale"), scale, unpacked_shape(packed));
}

}  // namespace

std::unique_ptr<Source> make_fp4(PartFinder& parts, const QuantizationConfig&) {
  const StTensor* packed = parts.find(".weight_packed");
  const StTensor* weight = packed ? packed : parts.find(".weight");
  if (!weight || weight->type != StType::u8 || !parts.find(".weight_scale")) return nullptr;
  if (!packed) {
    const StTensor* second = parts.take(".weight_scale_2");
    return second ? make_nvfp4(parts, ".weight", *second, false) : nullptr;
  }
  if (const StTensor* second = parts.take(".weight_global_scale"))
    return make_nvfp4(parts, ".weight_packed", *second, true);
  parts.take(".weight_packed");
  const std::vector<int64_t> shape = unpacked_shape(*packed);
  const StTensor& scales = parts.require(".weight_scale");
  auto source = std::make_unique<Mxfp4Source>(*packed, scales, shape);
  check_shape(scales, std::vector<int64_t>{shape[0], shape[1] / 32});
  return source;
}

std::unique_ptr<Source> make_mxfp4_blocks(PartFinder& parts, const QuantizationConfig&) {
  if (!parts.find("_scales")) return nullptr;
  const StTensor& blocks = parts.require("_blocks");
  const StTensor& scales = parts.require("_scales");
  const std::vector<int64_t>& shape = blocks.shape;
  if ((shape.size() != 3 && shape.size() != 4) || shape.back() != 16)
    throw refuse("quantization", "tensor {} must have blocks of 16 bytes, got {}", in_quotes(blocks.name),
                 shape_text(shape));
  check_shape(scales, std::span(shape).first(shape.size() - 1));
  std::vector<int64_t> plain(shape.begin(), shape.end() - 2);
  plain.push_back(shape[shape.size() - 2] * 32);
  return std::make_unique<Mxfp4Source>(blocks, scales, std::move(plain));
}

}  // namespace neutrino::weights
