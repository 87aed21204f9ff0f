// Checkpoints in several files: which files belong to it, and every tensor in one of them only.
#include <algorithm>
#include <set>

#include "base/json.h"
#include "base/limits.h"
#include "weights/reader.h"
#include "weights/safetensors.h"
#include "weights/shard_name.h"

namespace neutrino::weights {
namespace {

constexpr std::string_view kIndex = "model.safetensors.index.json";

// A shard is a file beside its index, whatever the index says.
void check_shard_name(std::string_view name) {
  const bool plain = is_name(name) && name.find_first_of("/\\:") == name.npos && !name.starts_with('.') &&
                     name.ends_with(".safetensors") &&
                     static_cast<int64_t>(name.size()) <= limits::kSafetensorsNameBytes;
  if (!plain)
    throw refuse("shard_name",
                 "a shard must be the plain name of a .safetensors file beside the index, got {}",
                 in_quotes(name));
}

std::map<std::string, std::string, std::less<>> read_weight_map(std::string_view text) {
  const json::value index = parse_json(text);
  const json::value* map = index.is_object() ? index.get_object().if_contains("weight_map") : nullptr;
  if (!map || !map->is_object() || map->get_object().empty())
    throw refuse("index", "the index must have a weight_map of tensor names to file names");
  std::map<std::string, std::string, std::less<>> shards;
  for (const auto& [tensor, file] : map->get_object()) {
    if (!file.is_string())
      throw refuse("index", "the index must give tensor {} a file name", in_quotes(tensor));
    check_shard_name(std::string_view(file.get_string()));
    shards.emplace(std::string(tensor), std::string(file.get_string()));
  }
  return shards;
}

Error with_file(const Error& error, const std::filesystem::path& path) {
  return Error(error.code(), fmt::format("{}: {}", printable(path.filename().string(), 120), error.message()))
      .with_reason(error.reason());
}

std::vector<std::string> safetensors_files(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error))
    if (entry.path().extension() == ".safetensors" &&
        !entry.path().filename().string().starts_with("adapter_model"))
      names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> all_shards(const ShardName& one) {
  std::vector<std::string> files;
  for (int64_t i = 1; i <= one.count; ++i) files.push_back(one.file(i));
  return files;
}

std::vector<std::string> checkpoint_files(const std::filesystem::path& folder) {
  const std::vector<std::string> names = safetensors_files(folder);
  if (std::find(names.begin(), names.end(), "model.safetensors") != names.end()) return {"model.safetensors"};
  for (const std::string& name : names)
    if (const auto shard = shard_name(name); shard && shard->stem == "model") return all_shards(*shard);
  if (names.size() == 1) return shard_name(names[0]) ? all_shards(*shard_name(names[0])) : names;
  if (names.empty())
    throw make_error(ErrorCode::not_found, "the folder has no safetensors file")
        .with_reason("checkpoint_missing");
  throw refuse("checkpoint_files",
               "the folder has {} safetensors files and no {} that says which belong together", names.size(),
               kIndex);
}

}  // namespace

void SafetensorsSet::add(const std::filesystem::path& path, std::string_view prefix, Links links) {
  MappedFile file = MappedFile::open(path, links);
  try {
    for (StTensor& tensor : parse_safetensors(file.bytes()).tensors) {
      tensor.name = std::string(prefix) + tensor.name;
      tensor.file = files_.size();
      const std::string name = tensor.name;
      if (!tensors_.emplace(name, std::move(tensor)).second)
        throw refuse("duplicate_tensor", "the checkpoint has tensor {} in two files", in_quotes(name));
    }
  } catch (const Error& error) {
    throw with_file(error, path);
  }
  files_.push_back(std::move(file));
}

void SafetensorsSet::open(const std::filesystem::path& folder, std::span<const std::string> files,
                          Links links) {
  for (const std::string& file : files) {
    if (std::error_code error; !std::filesystem::exists(folder / file, error))
      throw make_error(ErrorCode::not_found, "{} is missing, one of the checkpoint's {} files",
                       printable(file, 120), files.size())
          .with_reason("shard_missing");
    add(folder / file, "", links);
  }
}

void SafetensorsSet::open_index(const std::filesystem::path& folder, std::string_view index, Links links) {
  const auto shards = read_weight_map(index);
  std::set<std::string> names;
  for (const auto& [tensor, file] : shards) names.insert(file);
  if (static_cast<int64_t>(names.size()) > limits::kShards)
    throw refuse("index", "the index must name at most {} files, got {}", limits::kShards, names.size());
  const std::vector<std::string> files(names.begin(), names.end());
  open(folder, files, links);
  for (const auto& [tensor, file] : shards) {
    const auto found = tensors_.find(tensor);
    if (found == tensors_.end() || files[found->second.file] != file)
      throw refuse("index_tensor", "the index says that tensor {} is in {}, but it is not", in_quotes(tensor),
                   printable(file, 120));
  }
}

SafetensorsSet open_safetensors_folder(const std::filesystem::path& folder, Links links) {
  SafetensorsSet set;
  std::error_code error;
  const std::filesystem::path index = folder / kIndex;
  if (std::filesystem::exists(index, error)) {
    try {
      set.open_index(folder, read_file(index, limits::kConfigBytes, links), links);
    } catch (const Error& cause) {
      throw with_file(cause, index);
    }
  } else {
    set.open(folder, checkpoint_files(folder), links);
  }
  return set;
}

}  // namespace neutrino::weights
