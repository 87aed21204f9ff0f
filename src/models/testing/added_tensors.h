// A weight file with tensors put in the place of others: the same model as another writer would have laid it out.
#pragma once

#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "weights/weight_file.h"

namespace neutrino::models::testing {

class AddedTensors final : public weights::WeightFile {
 public:
  explicit AddedTensors(const weights::WeightFile& file)
      : file_(file), tensors_(file.tensors().begin(), file.tensors().end()) {}

  void erase(std::string_view name) {
    std::erase_if(tensors_, [&](const weights::TensorEntry& tensor) { return tensor.name == name; });
  }
  // A float32 tensor of these values.
  void add(std::string name, std::vector<int64_t> shape, std::vector<float> values) {
    const std::vector<float>& kept = values_.emplace_back(std::move(values));
    tensors_.push_back({.name = std::move(name),
                        .dtype = compute::DType::f32,
                        .shape = std::move(shape),
                        .data = reinterpret_cast<const std::byte*>(kept.data()),
                        .bytes = static_cast<int64_t>(kept.size() * sizeof(float))});
  }
  // A tensor's values in float32, whatever it is stored as.
  std::vector<float> values(std::string_view name) const {
    const weights::TensorEntry* tensor = find(name);
    check(tensor != nullptr, "the tensor is there");
    const weights::TensorData data = read(*tensor);
    const int64_t columns = tensor->shape.back();
    const int64_t row_bytes = *compute::matrix_bytes(tensor->dtype, 1, columns);
    const int64_t rows = tensor->bytes / row_bytes;
    std::vector<float> out(static_cast<size_t>(rows * columns));
    for (int64_t r = 0; r < rows; ++r)
      compute::dequantize_row(tensor->dtype, data.data + r * row_bytes, columns, out.data() + r * columns);
    return out;
  }

  const std::filesystem::path& path() const override { return file_.path(); }
  std::string_view format() const override { return file_.format(); }
  const weights::Metadata& metadata() const override { return file_.metadata(); }
  std::span<const weights::TensorEntry> tensors() const override { return tensors_; }
  const weights::TensorEntry* find(std::string_view name) const override {
    for (const weights::TensorEntry& tensor : tensors_)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  tokenizer::Vocabulary vocabulary() const override { return file_.vocabulary(); }
  std::optional<std::string> chat_template() const override { return file_.chat_template(); }
  weights::TensorData read(const weights::TensorEntry& tensor) const override {
    return file_.find(tensor.name) ? file_.read(*file_.find(tensor.name)) : weights::TensorData{tensor.data};
  }
  weights::TensorData read_slice(const weights::TensorEntry& tensor, int64_t index) const override {
    return file_.find(tensor.name) ? file_.read_slice(*file_.find(tensor.name), index)
                                   : weights::WeightFile::read_slice(tensor, index);
  }

 private:
  const weights::WeightFile& file_;
  std::vector<weights::TensorEntry> tensors_;
  std::deque<std::vector<float>> values_;  // of the added ones; their addresses stay
};

}  // namespace neutrino::models::testing
