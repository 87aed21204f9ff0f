// Metadata held as values: what a checkpoint's layout says, and whatever else is no GGUF file.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "weights/weight_file.h"

namespace neutrino::weights {

class MetadataValues final : public Metadata {
 public:
  MetadataValues() = default;
  explicit MetadataValues(std::vector<std::pair<std::string, MetadataValue>> values)
      : values_(std::move(values)) {}

  bool has(std::string_view key) const override { return find(key) != nullptr; }
  std::optional<int64_t> integer(std::string_view key) const override;
  std::optional<double> number(std::string_view key) const override;
  std::optional<bool> boolean(std::string_view key) const override;
  std::optional<std::string_view> text(std::string_view key) const override;
  std::optional<std::vector<int64_t>> integers(std::string_view key) const override;
  std::optional<std::vector<double>> numbers(std::string_view key) const override;
  std::vector<std::string> keys() const override;
  MetadataValue value(std::string_view key) const override;

 private:
  const MetadataValue* find(std::string_view key) const;

  std::vector<std::pair<std::string, MetadataValue>> values_;  // no key twice
};

}  // namespace neutrino::weights
