// For tests: a weight file opened and loaded into a CPU backend.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "compute/backend.h"
#include "models/model.h"
#include "weights/weight_file.h"

namespace neutrino::engine::testing {

// A random checkpoint of two layers with weights of this type (tests/golden/README.md).
#ifdef NEUTRINO_SOURCE_DIR
inline std::filesystem::path tiny_model_path(const std::string& dtype) {
  return NEUTRINO_SOURCE_DIR "/tests/golden/tiny/llama-" + dtype + ".gguf";
}
#endif

struct LoadedModel {
  LoadedModel(const std::filesystem::path& path, const compute::BackendOptions& options)
      : file(weights::open_weight_file(path)),
        backend(compute::make_cpu_backend(options)),
        model(models::load_model(*file, *backend)) {}
  std::unique_ptr<weights::WeightFile> file;
  std::unique_ptr<compute::Backend> backend;
  std::unique_ptr<models::Model> model;
};

}  // namespace neutrino::engine::testing
