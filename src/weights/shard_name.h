// Names of the parts of a set of files: "model-00001-of-00004.safetensors".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace neutrino::weights {

struct ShardName {
  std::string stem;       // "model", with its folder if it has one
  std::string extension;  // ".safetensors"
  int64_t number = 0;     // from 1
  int64_t count = 0;

  std::string file(int64_t other) const;  // the name of another part of the set
};

// nullopt: no such name, or a part that its own count does not have, or more than limits::kShards.
std::optional<ShardName> shard_name(std::string_view file);
std::optional<ShardName> gguf_shard_name(std::string_view file);  // only of a split GGUF file

}  // namespace neutrino::weights
