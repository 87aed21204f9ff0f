// Safetensors: eight bytes of length, a JSON object that lists the tensors, their bytes.
// https://github.com/huggingface/safetensors
//
// The file is mapped read-only and read in place, and taken to be written by an enemy: what parse_safetensors() returns has
// been checked against the file, so that whoever holds it may follow its pointers and sizes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"

namespace neutrino::weights {

enum class StType : uint8_t {
  boolean,
  u8,
  i8,
  i16,
  u16,
  i32,
  u32,
  i64,
  u64,
  f16,
  bf16,
  f32,
  f64,
  c64,
  f8_e4m3,
  f8_e5m2,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  f6_e2m3,
  f6_e3m2,
  f4
};
std::string_view st_type_name(StType type);  // "BF16"
int64_t st_type_bits(StType type);           // of one element

struct StTensor {
  std::string name;
  StType type = StType::f32;
  std::vector<int64_t> shape;  // row-major, outermost first; empty: one number
  const std::byte* data = nullptr;
  int64_t bytes = 0;
  size_t file = 0;  // of SafetensorsSet::files()

  int64_t elements() const;
};

struct SafetensorsFile {
  std::vector<StTensor> tensors;                              // in the order of their data
  std::vector<std::pair<std::string, std::string>> metadata;  // __metadata__
};

// Checks all that the header says. `bytes` must outlive the result. Throws Error with the check's name as its reason: the
// header's length (at most limits::kSafetensorsHeaderBytes, and within the file), strict JSON without a key twice, names,
// types, shapes whose size is that of their bytes, data that the tensors fill in their order without hole or overlap, no
// bytes behind the last.
SafetensorsFile parse_safetensors(std::span<const std::byte> bytes);

// One file, or the shards of a set, opened: tensors by name. Every tensor is in one shard only.
class SafetensorsSet {
 public:
  // Opens `files`, all in `folder`. Throws Error that names the file.
  void open(const std::filesystem::path& folder, std::span<const std::string> files, Links links);
  // Opens a set by its index, the text of model.safetensors.index.json: every shard must be there and hold the tensors that
  // the index says. Shards are plain file names: none leads out of the folder.
  void open_index(const std::filesystem::path& folder, std::string_view index, Links links);
  // Adds one more file's tensors with `prefix` in front of their names.
  void add(const std::filesystem::path& path, std::string_view prefix, Links links);

  const std::map<std::string, StTensor, std::less<>>& tensors() const { return tensors_; }
  std::span<const MappedFile> files() const { return files_; }

 private:
  std::vector<MappedFile> files_;
  std::map<std::string, StTensor, std::less<>> tensors_;
};

// The checkpoint's files in a folder: its index's shards, "model.safetensors", "model-00001-of-00004.safetensors" and its
// fellows without an index, or the only safetensors file there is.
SafetensorsSet open_safetensors_folder(const std::filesystem::path& folder, Links links);

}  // namespace neutrino::weights
