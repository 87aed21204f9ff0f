// An adapter's files, read: what it does to each matrix of the model that it was trained for. A PEFT folder
// (adapter_config.json, adapter_model.safetensors) names the checkpoint's modules, a GGUF file (general.type "adapter") the
// canonical tensors. Both are taken to be written by an enemy.
//
// W' = W + s B A, s = alpha / r (rsLoRA: alpha / sqrt(r)).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "weights/layouts/layout.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

struct AdapterMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<float> values;
};

struct AdapterChange {
  std::optional<AdapterMatrix> a, b;      // (r, columns), (rows, r)
  double scale = 1;                       // s, times the caller's
  std::vector<float> magnitude;           // DoRA: (rows)
  std::optional<AdapterMatrix> replaced;  // modules_to_save: all of it
};

struct AdapterSource {
  std::map<std::string, AdapterChange> changes;  // by tensor: "model.layers.0.self_attn.q_proj.weight"
  bool canonical = false;                        // the names are those of the canonical form
  std::string architecture;                      // of the base, where the file says it
};

// `bytes_max`: of its tensors as float32. Throws Error that names the field or tensor which is not supported or does not hold
// together: nothing of an adapter is left out.
AdapterSource read_adapter_source(const std::filesystem::path& path, double scale, int64_t bytes_max);

// The rules by which the base's tensors are made from those that the adapter names.
std::vector<TensorRule> adapter_rules(const WeightFile& base, const AdapterSource& adapter);

}  // namespace neutrino::weights
