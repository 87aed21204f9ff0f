// What registry.cpp lists: two functions per architecture, defined in the architecture's own file.
#pragma once

#include <memory>

#include "models/model.h"

namespace neutrino::models {

ModelConfig read_llama_config(const weights::WeightFile& file);
std::unique_ptr<Model> load_llama(const weights::WeightFile& file, compute::Backend& backend,
                                  int64_t context);

}  // namespace neutrino::models
