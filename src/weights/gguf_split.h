// GGUF files in parts, as llama.cpp's gguf-split writes them: "name-00001-of-00003.gguf" and its fellows.
//
// The first part holds the model's keys; each part says its number (split.no, from 0), how many there are (split.count) and
// how many tensors all of them have (split.tensors.count).
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "weights/weight_file.h"

namespace neutrino::weights {

bool is_gguf_part(const WeightFile& file);  // of a set of more than one

// The paths of all parts, the first first, beside `path`, which is one of them. Throws Error where the name of `path` does not
// fit what the file says of itself, or a part is missing.
std::vector<std::filesystem::path> gguf_part_paths(const std::filesystem::path& path, const WeightFile& part);

// All parts as one file. Throws Error{invalid_argument} where they do not belong together: their numbers are not 0, 1, 2, ...,
// they differ in how many there are, the tensors are not as many as they say, or one is there twice.
std::unique_ptr<WeightFile> join_gguf_parts(const std::filesystem::path& path,
                                            std::vector<std::unique_ptr<WeightFile>> parts);

}  // namespace neutrino::weights
