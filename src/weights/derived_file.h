// A model made from another by giving some of its tensors new values: everything else is the base's. What merges are written
// out of.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "weights/weight_file.h"

namespace neutrino::weights {

// All values of a tensor as float32, with its second scale (NVFP4) multiplied in.
std::vector<float> read_values(const WeightFile& file, const TensorEntry& tensor);

// Values as `dtype`, rows of `columns`. Throws Error{invalid_argument} naming the tensor where a value does not fit.
std::vector<std::byte> encode_values(std::string_view tensor, const std::vector<float>& values,
                                     int64_t columns, compute::DType dtype);

// What a changed tensor is stored as: as in the base where that type can be written (else float16), or float32 because it is
// going to be quantised anyway.
enum class DerivedTypes { as_base, float32 };

class DerivedFile final : public WeightFile {
 public:
  using Maker = std::function<std::vector<float>()>;  // all values of the tensor

  // `base` outlives this object. Every key of `makers` is the name of one of its tensors.
  DerivedFile(const WeightFile& base, std::map<std::string, Maker> makers, DerivedTypes types);

  const std::filesystem::path& path() const override { return base_.path(); }
  std::string_view format() const override { return base_.format(); }
  const Metadata& metadata() const override { return base_.metadata(); }
  std::span<const TensorEntry> tensors() const override { return entries_; }
  const TensorEntry* find(std::string_view name) const override;
  tokenizer::Vocabulary vocabulary() const override { return base_.vocabulary(); }
  std::optional<std::string> chat_template() const override { return base_.chat_template(); }
  TensorData read(const TensorEntry& tensor) const override;
  TensorData read_slice(const TensorEntry& tensor, int64_t index) const override;

 private:
  const WeightFile& base_;
  std::map<std::string, Maker> makers_;
  std::vector<TensorEntry> entries_;
};

}  // namespace neutrino::weights
