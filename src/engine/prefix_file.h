// The keys and values of a prefix on disk, so that a long system prompt is computed once in a model's life rather than once in a
// process's.
//
// A file is: 8 bytes of magic, the size of the header, the header (JSON: fingerprint, bytes_per_block, blocks), the tokens as
// little-endian int32, the blocks' bytes as they stand in the cache, and the SHA-256 of all that. It is good for the same
// weights, build, kernel table and kind of cache alone, which is what the fingerprint says; nothing in it is believed before
// the checksum is right.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "compute/batch.h"

namespace neutrino::engine {

struct PrefixFile {
  std::string fingerprint = {};
  int64_t bytes_per_block = 0;
  std::vector<int32_t> tokens = {};  // of whole blocks
  std::vector<std::byte> data = {};  // bytes_per_block each

  int64_t blocks() const { return std::ssize(tokens) / compute::kBlockPositions; }
  std::span<const int32_t, static_cast<size_t>(compute::kBlockPositions)> tokens_of(int64_t block) const {
    return std::span(tokens)
        .subspan(static_cast<size_t>(block * compute::kBlockPositions))
        .first<static_cast<size_t>(compute::kBlockPositions)>();
  }
  std::span<const std::byte> data_of(int64_t block) const {
    return std::span(data).subspan(static_cast<size_t>(block * bytes_per_block),
                                   static_cast<size_t>(bytes_per_block));
  }
};

// Written whole or not at all. Returns its size. Throws Error{resource_exhausted}: it would be larger than `bytes_max`.
int64_t write_prefix_file(const std::filesystem::path& path, const PrefixFile& prefix, int64_t bytes_max);

// Throws Error{not_found}, and Error{data_loss} for a file that is not whole.
PrefixFile read_prefix_file(const std::filesystem::path& path, int64_t bytes_max);

}  // namespace neutrino::engine
