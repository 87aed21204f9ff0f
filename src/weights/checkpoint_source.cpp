#include "weights/checkpoint_source.h"

#include <cstring>

#include "base/limits.h"
#include "weights/checkpoint_quantized.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using compute::DType;

// Floats that float32 holds, or nearly (F64: rounded once).
float decoded(StType type, const std::byte* from) {
  const auto read = [&](auto value) {
    std::memcpy(&value, from, sizeof value);
    return value;
  };
  switch (type) {
    case StType::f64: return static_cast<float>(read(double{}));
    case StType::f8_e4m3: return compute::f8_e4m3_to_f32(read(uint8_t{}));
    case StType::f8_e5m2: return compute::f8_e5m2_to_f32(read(uint8_t{}));
    case StType::f8_e8m0: return compute::e8m0_to_f32(read(uint8_t{}));
    default: check(false, "no type of floats"); return 0;
  }
}

class PlainSource final : public Source {
 public:
  explicit PlainSource(const StTensor& tensor) : tensor_(&tensor) {
    shape_ = tensor.shape.empty() ? std::vector<int64_t>{1} : tensor.shape;
    dtype_ = tensor.type == StType::f16 ? DType::f16 : tensor.type == StType::bf16 ? DType::bf16 : DType::f32;
  }

  const std::byte* in_place() const override {
    const bool stored = dtype_ != DType::f32 || tensor_->type == StType::f32;
    const auto address = reinterpret_cast<uintptr_t>(tensor_->data);
    return stored && address % static_cast<uintptr_t>(compute::dtype_info(dtype_).block_bytes) == 0
               ? tensor_->data
               : nullptr;
  }

  TensorData matrix(int64_t index) const override {
    const int64_t elements = rows() * columns(), from_size = st_type_bits(tensor_->type) / 8;
    const int64_t to_size = compute::dtype_info(dtype_).block_bytes;
    if (const std::byte* bytes = in_place()) return {bytes + index * elements * to_size};
    const std::byte* from = tensor_->data + index * elements * from_size;
    const std::shared_ptr<std::byte[]> out(new std::byte[static_cast<size_t>(elements * to_size)]);
    if (from_size == to_size)  // stored so, but not aligned
      std::memcpy(out.get(), from, static_cast<size_t>(elements * to_size));
    else
      for (int64_t i = 0; i < elements; ++i) {
        const float value = decoded(tensor_->type, from + i * from_size);
        std::memcpy(out.get() + i * to_size, &value, sizeof value);
      }
    return {out.get(), out};
  }

  std::string unusable() const override {
    if (shape_.size() > 3) return fmt::format("has {} dimensions", shape_.size());
    switch (tensor_->type) {
      case StType::f32:
      case StType::f16:
      case StType::bf16:
      case StType::f64:
      case StType::f8_e4m3:
      case StType::f8_e5m2:
      case StType::f8_e8m0: return {};
      default: return fmt::format("is of dtype {}", st_type_name(tensor_->type));
    }
  }

 private:
  const StTensor* tensor_;
};

// What is in front of the language model's tensors, where it is one part of a model; and what stands for nothing of it.
struct Prefix {
  std::string_view from, to;
};
constexpr Prefix kPrefixes[] = {
    {"language_model.model.", "model."},
    {"language_model.lm_head.", "lm_head."},
    {"model.language_model.lm_head.", "lm_head."},
    {"model.language_model.", "model."},
};
constexpr std::string_view kOtherSenses[] = {
    "vision_tower.",       "vision_model.",       "visual.",
    "model.visual.",       "model.vision_tower.", "multi_modal_projector.",
    "audio_tower.",        "model.audio_tower.",  "model.multi_modal_projector.",
    "model.vision_model.", "model.embed_vision.", "model.embed_audio.",
};

bool is_other_sense(std::string_view name, const json::object& config) {
  if (!config.contains("vision_config") && !config.contains("audio_config")) return false;
  for (const std::string_view prefix : kOtherSenses)
    if (name.starts_with(prefix)) return true;
  return false;
}

// A decoder saved without its head has no "model." in front.
bool is_bare_decoder(const SafetensorsSet& set) {
  return set.tensors().contains("embed_tokens.weight") &&
         !set.tensors().contains("model.embed_tokens.weight");
}

std::string plain_name(const std::string& name, bool bare_decoder) {
  for (const Prefix& prefix : kPrefixes)
    if (name.starts_with(prefix.from)) return std::string(prefix.to) + name.substr(prefix.from.size());
  for (const std::string_view part : {"embed_tokens.", "layers.", "norm."})
    if (bare_decoder && name.starts_with(part)) return "model." + name;
  return name;
}

}  // namespace

int64_t Source::matrices() const { return shape_.size() == 3 && !is_convolution() ? shape_[0] : 1; }
int64_t Source::rows() const { return shape_.size() == 3 && !is_convolution() ? shape_[1] : shape_[0]; }
int64_t Source::columns() const { return shape_.size() == 1 ? 1 : shape_.back(); }

std::unique_ptr<Source> plain_source(const StTensor& tensor) { return std::make_unique<PlainSource>(tensor); }

Sources make_sources(const SafetensorsSet& set, const json::object& config) {
  const bool bare = is_bare_decoder(set);
  Parts parts;
  for (const auto& [name, tensor] : set.tensors())
    if (!is_other_sense(name, config) && !parts.emplace(plain_name(name, bare), &tensor).second)
      throw refuse("duplicate_tensor", "the checkpoint has tensor {} under two names",
                   in_quotes(plain_name(name, bare)));
  Sources sources = take_quantized(parts, config);
  for (const auto& [name, tensor] : parts) sources.emplace(name, plain_source(*tensor));
  return sources;
}

}  // namespace neutrino::weights
