// Which files of a folder or of a repository make a model.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace neutrino::weights {

// "*" stands for any characters, also '/'; "?" for one.
bool matches_glob(std::string_view text, std::string_view pattern);

// A GGUF file, or all parts of a split one in their order.
struct GgufSet {
  std::string title;  // the file's name without ".gguf", of a split one its stem
  std::vector<std::string> files;
};
// Those among `names` that can be a model: no projectors ("mmproj") and importance matrices ("imatrix"). Throws Error{data_loss}
// that names the first missing part of a split file.
std::vector<GgufSet> gguf_sets(const std::vector<std::string>& names);

// Those among `names` that make a Hugging Face checkpoint: configuration, tokenizer, template, licence and safetensors in the
// folder itself; modules of sentence-transformers below it. Empty if there is no config.json or no safetensors file.
std::vector<std::string> checkpoint_files(const std::vector<std::string>& names);

struct FileChoice {
  std::string quant = {};                 // "Q4_K_M": the GGUF file of that name
  std::vector<std::string> include = {};  // globs: only these files, instead of the rule below
  std::vector<std::string> exclude = {};  // globs: never these
};
// What to take from a repository: what the choice says; else the checkpoint; else the only GGUF file; else, of several, the one
// of Q4_K_M. Throws Error{not_found} or Error{invalid_argument} that lists what there is.
std::vector<std::string> choose_files(const std::vector<std::string>& names, const FileChoice& choice);

// What a name in the store would be for these files: the GGUF file's title; empty for a checkpoint.
std::string title_of(const std::vector<std::string>& files);

// The file of a chosen set that open_weight_file() takes: the GGUF file, the first part of a split one; empty: the folder.
// Throws Error{invalid_argument} where the files are not one model.
std::string main_file(const std::vector<std::string>& names);

}  // namespace neutrino::weights
