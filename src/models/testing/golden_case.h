// A case of tests/golden/models: a tiny random model and what `transformers` computes for it.
//
// The file holds no weights: element i of a tensor is offset + scale * u(name, i), a function that tools/make_model_golden.py
// has too. write_checkpoint() makes the checkpoint that transformers would have saved.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "compute/backend.h"
#include "models/model.h"

namespace neutrino::models::testing {

struct GoldenTensor {
  std::string name;
  std::string dtype;  // "F32", "BF16", "F16"
  std::vector<int64_t> shape;
  float offset = 0, scale = 0;
  std::string salt = {};  // in front of the name, where its values are made of it
};

struct GoldenCase {
  std::string name;  // of the file, without .json
  json::object config;
  std::vector<GoldenTensor> tensors;
  std::vector<int32_t> tokens;
  std::vector<int64_t> rows;  // of the output that `expected` holds
  int64_t columns = 0;
  std::vector<float> expected;  // (rows, columns)
  int64_t context = 0;          // that the model is loaded for; 0: what the file says
  json::object file;            // the whole, for what only some cases have
};

// `folder` is tests/golden/models.
std::vector<std::string> golden_case_names(const std::filesystem::path& folder);  // sorted
GoldenCase read_golden_case(const std::filesystem::path& folder, std::string_view name);

// Writes config.json and model.safetensors into `folder`. The tensor called `corrupted` gets other values.
void write_checkpoint(const GoldenCase& golden, const std::filesystem::path& folder,
                      std::string_view corrupted = {});

// Converts a checkpoint as `model convert --type f32` does, after giving it a small tokenizer.json.
void convert_to_f32_gguf(const std::filesystem::path& checkpoint, const std::filesystem::path& path);

// u(name, i) for i in [0, count): multiples of 2^-23 in [-1, 1).
std::vector<float> golden_uniform(std::string_view name, int64_t count);

// A folder of its own under the temporary folder, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// Feeds `tokens` through one sequence, cut into chunks of the given sizes, and returns all rows' outputs. Before chunk
// `resume_at` (0: never) the recurrent state goes through a snapshot: into another slot, the first one cleared.
struct RunOptions {
  std::vector<int64_t> chunks = {};  // empty: one
  size_t resume_at = 0;
  const compute::Adapter* adapter = nullptr;
  std::vector<int64_t> wanted = {};  // positions whose outputs are wanted, ascending; empty: all
};
std::vector<float> run_tokens(const Model& model, compute::Backend& backend,
                              const std::vector<int32_t>& tokens, const RunOptions& options = {});

// The pooled and finished output of a whole text: one row.
std::vector<float> run_pooled(const Model& model, compute::Backend& backend,
                              const std::vector<int32_t>& tokens);

// The largest difference between the case's rows and the outputs, which hold all rows.
double largest_difference(const GoldenCase& golden, const std::vector<float>& outputs);

}  // namespace neutrino::models::testing
