// LoRA adapters (Hu et al. 2021) and their relatives: PEFT folders and GGUF files, merged into the model they were trained for.
//
// W' = W + s B A, s = alpha / r (rsLoRA: alpha / sqrt(r)); with DoRA (Liu et al. 2024) W' = m (W + s B A) / |W + s B A|, the
// norms over a row's inputs. The arithmetic is float64, rounded once.
#pragma once

#include <filesystem>
#include <memory>

#include "weights/derived_file.h"

namespace neutrino::weights {

struct AdapterOptions {
  double scale = 1;  // of what the adapter adds
  DerivedTypes types = DerivedTypes::as_base;
};

// `path`: a PEFT folder (adapter_config.json, adapter_model.safetensors) or a GGUF adapter. `base` outlives the result. Throws
// Error that names the adapter's field or tensor which does not fit the base, or is not supported: nothing of an adapter is
// left out.
std::unique_ptr<WeightFile> merge_adapter(const WeightFile& base, const std::filesystem::path& path,
                                          const AdapterOptions& options);

}  // namespace neutrino::weights
