// Writes a checkpoint: config.json, tokenizer files, safetensors shards and their index.
//
// The folder grows as FOLDER.partial and gets its name when it is complete. Each shard is written atomically, and those that
// an interrupted run has finished are kept if the next run would write the same (plan.json there says so).
#pragma once

#include <filesystem>
#include <functional>

#include "weights/convert.h"

namespace neutrino::weights {

// As convert_to_gguf(); options.mix may be f32, f16 or bf16; null: floats keep their types, quantised tensors become bf16.
// Throws Error{unimplemented} where the model has no known form as a checkpoint (checkpoint_form.h).
ConvertReport convert_to_safetensors(const WeightFile& source, const std::filesystem::path& folder,
                                     const ConvertOptions& options);

}  // namespace neutrino::weights
