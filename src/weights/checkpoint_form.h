// What a model looks like as a Hugging Face checkpoint: its config.json, and the rules by which its tensors become canonical.
// Adapters name the modules of that form, and the way from GGUF to safetensors turns the rules round.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "weights/convert.h"
#include "weights/layouts/layout.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

struct CheckpointForm {
  json::object config;
  std::vector<TensorRule> rules;
};

// A checkpoint's own; of a GGUF file what neutrino.checkpoint.config says, or else what its keys say, for the architectures
// whose tensors have plain names (llama, qwen2, qwen3, gemma2, gemma3, olmo2). Throws Error{unimplemented} for others.
CheckpointForm checkpoint_form(const WeightFile& file);

// The rules alone, which a GGUF file's RoPE scaling does not matter for.
std::vector<TensorRule> checkpoint_rules(const WeightFile& file);

// One tensor of the checkpoint, made from the canonical tensors that its rules made of it: the transforms backwards.
struct CheckpointTensor {
  std::string name;
  std::vector<int64_t> shape;  // outermost first
  compute::DType dtype;        // of the canonical tensor
};

class CheckpointTensors {
 public:
  // Throws Error where the rules do not say all of a tensor.
  CheckpointTensors(const WeightFile& file, const CheckpointForm& form);
  const std::vector<CheckpointTensor>& list() const { return list_; }  // by name
  std::vector<float> values(const CheckpointTensor& tensor) const;

 private:
  struct Part {
    const TensorRule* rule;
    int64_t matrix;  // of a stacked tensor; -1: the tensor is not stacked
  };
  void refuse_fused(const std::string& name, const std::vector<Part>& parts) const;

  const WeightFile& file_;
  std::vector<TensorRule> rules_;
  std::map<std::string, std::vector<Part>> parts_;
  std::vector<CheckpointTensor> list_;
};

}  // namespace neutrino::weights
