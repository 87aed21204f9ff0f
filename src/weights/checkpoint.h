// A Hugging Face checkpoint (a folder with config.json, safetensors files, tokenizer.json) opened as if it were the GGUF file
// of the same model: keys, tensor names and layouts are the canonical ones, whatever the folder calls them.
//
// What differs on disk (rows in another order, a transposed matrix, one file an expert, quantised in another scheme) is made
// when a tensor is read; what does not is read in place.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "weights/weight_file.h"

namespace neutrino::weights {

// `path`: the folder, or one of its safetensors files (a shard stands for its whole set). Throws Error that names the file at
// fault.
std::unique_ptr<WeightFile> open_checkpoint(const std::filesystem::path& path, Links links = Links::follow);

}  // namespace neutrino::weights
