// A file of weights, opened: its tensors by name, its configuration, its vocabulary. The front door of this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "compute/tensor.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::weights {

struct TensorEntry {
  std::string name;  // as in the file: "blk.0.attn_q.weight"
  compute::DType dtype;
  std::vector<int64_t> shape;  // row-major, outermost first: (out, in); GGUF lists it the other way round
  const std::byte* data = nullptr;  // inside the mapped file, checked
  int64_t bytes = 0;
};

// Typed access to GGUF metadata. Each getter throws Error{invalid_argument} naming the key if the value has another type
// than the one declared for it (an integer key accepts any integer type whose value fits).
class Metadata {
 public:
  virtual ~Metadata() = default;
  virtual bool has(std::string_view key) const = 0;
  virtual std::optional<int64_t> integer(std::string_view key) const = 0;
  virtual std::optional<double> number(std::string_view key) const = 0;  // f32 or f64
  virtual std::optional<bool> boolean(std::string_view key) const = 0;
  virtual std::optional<std::string_view> text(std::string_view key) const = 0;
};

class WeightFile {
 public:
  virtual ~WeightFile() = default;
  virtual const std::filesystem::path& path() const = 0;
  virtual std::string_view format() const = 0;  // "gguf v3"
  virtual const Metadata& metadata() const = 0;
  virtual std::span<const TensorEntry> tensors() const = 0;
  virtual const TensorEntry* find(std::string_view name) const = 0;  // nullptr: not there
  virtual tokenizer::Vocabulary vocabulary() const = 0;              // throws Error where it is malformed
  virtual std::optional<std::string> chat_template() const = 0;

  // A matrix or vector with the shape it must have; throws Error that names tensor, shape and expectation.
  compute::WeightView matrix(std::string_view name, int64_t rows, int64_t columns) const;
  std::vector<float> vector(std::string_view name, int64_t size) const;  // dequantised copy
};

// Opens and checks everything that a header can say wrong before anything else reads it. Refuses pickles, archives and
// executables with the name of what they are. Throws Error.
std::unique_ptr<WeightFile> open_weight_file(const std::filesystem::path& path, Links links = Links::follow);

}  // namespace neutrino::weights
