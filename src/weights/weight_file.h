// A file of weights, opened: its tensors by name, its configuration, its vocabulary. The front door of this folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/file.h"
#include "compute/tensor.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::weights {

struct TensorEntry {
  std::string name;  // as in the file: "blk.0.attn_q.weight"
  compute::DType dtype;
  std::vector<int64_t> shape;  // row-major, outermost first: (out, in); GGUF lists it the other way round
  const std::byte* data = nullptr;  // inside the mapped file, checked; null: WeightFile::read() makes it
  int64_t bytes = 0;
};

// A tensor's bytes, which live as long as `owner`, or without one as long as the file.
struct TensorData {
  const std::byte* data = nullptr;
  std::shared_ptr<const void> owner = {};
};

// A metadata value as GGUF has them; integers and floats of any width.
using MetadataValue = std::variant<int64_t, double, bool, std::string, std::vector<int64_t>,
                                   std::vector<double>, std::vector<bool>, std::vector<std::string>>;

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
  // Arrays: of integers (an array of booleans counts as one of 0 and 1), of floats.
  virtual std::optional<std::vector<int64_t>> integers(std::string_view key) const = 0;
  virtual std::optional<std::vector<double>> numbers(std::string_view key) const = 0;
  // Everything, in the file's order, for copying and for looking at.
  virtual std::vector<std::string> keys() const = 0;
  virtual MetadataValue value(std::string_view key) const = 0;  // check(): the key is there
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

  // The bytes of one of tensors(), in its canonical layout. A file that has to make them (transpose, permute, dequantise)
  // makes them at each call.
  virtual TensorData read(const TensorEntry& tensor) const { return {tensor.data}; }
  // Nobody will read much of it soon: mapped pages leave this process's memory.
  virtual void release_pages() const {}
  // Matrix `index` of a tensor of shape (count, rows, columns).
  virtual TensorData read_slice(const TensorEntry& tensor, int64_t index) const;

  // A matrix or vector with the shape it must have; throws Error that names tensor, shape and expectation. A tensor
  // "<name minus .weight>.scale" of one float32 a matrix becomes the view's scale.
  compute::WeightView matrix(std::string_view name, int64_t rows, int64_t columns) const;
  std::vector<compute::WeightView> matrices(std::string_view name, int64_t count, int64_t rows,
                                            int64_t columns) const;      // of a tensor (count, rows, columns)
  std::vector<float> vector(std::string_view name, int64_t size) const;  // dequantised copy
};

// Opens and checks everything that a header can say wrong before anything else reads it. Refuses pickles, archives and
// executables with the name of what they are. `path` is a GGUF file (the first of a split set opens all of it), a safetensors
// file beside its config.json, or a folder that holds config.json. Throws Error.
std::unique_ptr<WeightFile> open_weight_file(const std::filesystem::path& path, Links links = Links::follow);

}  // namespace neutrino::weights
