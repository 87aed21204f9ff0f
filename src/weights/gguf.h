// GGUF, the format of llama.cpp's model files: header, key-value metadata, tensor infos, padding, tensor data.
// https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
//
// The file is mapped read-only and read in place. It is taken to be written by an enemy: parse_gguf() checks all that the
// header says before anything else looks at it, so that whoever holds a WeightFile may follow its pointers and sizes.
#pragma once

#include <filesystem>
#include <memory>
#include <span>

#include "weights/weight_file.h"

namespace neutrino::weights {

// A part of a split set opens all of it (gguf_split.h).
std::unique_ptr<WeightFile> open_gguf(const std::filesystem::path& path, MappedFile file,
                                      Links links = Links::follow);

// One file over bytes in memory, which must outlive the result (tests, fuzzer). Aligned as malloc() does.
std::unique_ptr<WeightFile> parse_gguf(const std::filesystem::path& path, std::span<const std::byte> bytes);

}  // namespace neutrino::weights
