// A weight file with some of its keys changed or gone, or one tensor gone: what a hostile or broken file says, whatever its format.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/error.h"
#include "weights/weight_file.h"

namespace neutrino::models::testing {

class ChangedWeights final : public weights::WeightFile, private weights::Metadata {
 public:
  explicit ChangedWeights(const weights::WeightFile& file) : file_(file) {}

  void set(const std::string& key, weights::MetadataValue value) { values_[key] = std::move(value); }
  void erase(const std::string& key) { values_[key] = std::nullopt; }
  void erase_tensor(std::string name) { erased_ = std::move(name); }

  const std::filesystem::path& path() const override { return file_.path(); }
  std::string_view format() const override { return file_.format(); }
  const weights::Metadata& metadata() const override { return *this; }
  std::span<const weights::TensorEntry> tensors() const override { return file_.tensors(); }
  const weights::TensorEntry* find(std::string_view name) const override {
    return name == erased_ ? nullptr : file_.find(name);
  }
  tokenizer::Vocabulary vocabulary() const override { return {}; }
  std::optional<std::string> chat_template() const override { return std::nullopt; }
  weights::TensorData read(const weights::TensorEntry& tensor) const override { return file_.read(tensor); }
  weights::TensorData read_slice(const weights::TensorEntry& tensor, int64_t index) const override {
    return file_.read_slice(tensor, index);
  }

 private:
  // What a getter of the file would say, with the changed value where there is one.
  template <typename T>
  std::optional<T> get(std::string_view key,
                       std::optional<T> (weights::Metadata::*getter)(std::string_view) const) const {
    const auto changed = values_.find(key);
    if (changed == values_.end()) return (file_.metadata().*getter)(key);
    if (!changed->second) return std::nullopt;
    if (const T* value = std::get_if<T>(&*changed->second)) return *value;
    throw make_error(ErrorCode::invalid_argument, "{} has another type", key);
  }
  bool has(std::string_view key) const override {
    const auto changed = values_.find(key);
    return changed == values_.end() ? file_.metadata().has(key) : changed->second.has_value();
  }
  std::optional<int64_t> integer(std::string_view key) const override { return get(key, &Metadata::integer); }
  std::optional<double> number(std::string_view key) const override { return get(key, &Metadata::number); }
  std::optional<bool> boolean(std::string_view key) const override { return get(key, &Metadata::boolean); }
  std::optional<std::string_view> text(std::string_view key) const override {
    const auto changed = values_.find(key);
    if (changed == values_.end()) return file_.metadata().text(key);
    if (!changed->second) return std::nullopt;
    if (const auto* value = std::get_if<std::string>(&*changed->second)) return *value;
    throw make_error(ErrorCode::invalid_argument, "{} has another type", key);
  }
  std::optional<std::vector<int64_t>> integers(std::string_view key) const override {
    return get(key, &Metadata::integers);
  }
  std::optional<std::vector<double>> numbers(std::string_view key) const override {
    return get(key, &Metadata::numbers);
  }
  std::vector<std::string> keys() const override { return file_.metadata().keys(); }
  weights::MetadataValue value(std::string_view key) const override {
    const auto changed = values_.find(key);
    return changed == values_.end() ? file_.metadata().value(key) : changed->second.value();
  }

  const weights::WeightFile& file_;
  std::map<std::string, std::optional<weights::MetadataValue>, std::less<>> values_;  // nullopt: gone
  std::string erased_;
};

}  // namespace neutrino::models::testing
