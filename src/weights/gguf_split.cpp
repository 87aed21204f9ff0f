#include "weights/gguf_split.h"

#include <map>

#include "base/limits.h"
#include "weights/reader.h"
#include "weights/shard_name.h"

namespace neutrino::weights {
namespace {

std::string file_name(const std::filesystem::path& path) { return printable(path.filename().string(), 120); }

int64_t part_count(const WeightFile& part) {
  const int64_t count = part.metadata().integer("split.count").value_or(1);
  if (count < 0 || count > limits::kShards)
    throw refuse("split_count", "split.count must be 0-{}, got {}", limits::kShards, count);
  return count;
}

int64_t required(const WeightFile& part, std::string_view key) {
  const auto value = part.metadata().integer(key);
  if (!value) throw refuse("split_key", "part {} must have the key {}", file_name(part.path()), key);
  return *value;
}

// What part `index` says of itself and of the set.
void check_number(const WeightFile& part, int64_t index, int64_t count) {
  const std::string name = file_name(part.path());
  if (const int64_t number = required(part, "split.no"); number != index)
    throw refuse("split_number", "{} must be part {} (split.no, from 0), but says it is {}", name, index,
                 number);
  if (const int64_t said = required(part, "split.count"); said != count)
    throw refuse("split_count", "{} says that there are {} parts (split.count), the set has {}", name, said,
                 count);
}

void check_tensors(const WeightFile& part, int64_t tensors) {
  if (const int64_t said = required(part, "split.tensors.count"); said != tensors)
    throw refuse("split_tensors",
                 "{} says that there are {} tensors (split.tensors.count), the parts hold {}",
                 file_name(part.path()), said, tensors);
}

class SplitFile final : public WeightFile {
 public:
  SplitFile(const std::filesystem::path& path, std::vector<std::unique_ptr<WeightFile>> parts)
      : path_(path), parts_(std::move(parts)) {
    for (const auto& part : parts_)
      entries_.insert(entries_.end(), part->tensors().begin(), part->tensors().end());
    const auto count = static_cast<int64_t>(parts_.size()), tensors = static_cast<int64_t>(entries_.size());
    for (int64_t i = 0; i < count; ++i) check_number(*parts_[static_cast<size_t>(i)], i, count);
    for (const auto& part : parts_) check_tensors(*part, tensors);
    if (entries_.empty()) throw refuse("no_tensors", "the parts hold no tensors");
    for (size_t i = 0; i < entries_.size(); ++i)
      if (!by_name_.emplace(entries_[i].name, i).second)
        throw refuse("duplicate_tensor", "the set has tensor {} in two parts", in_quotes(entries_[i].name));
  }

  const std::filesystem::path& path() const override { return path_; }
  std::string_view format() const override { return parts_[0]->format(); }
  const Metadata& metadata() const override { return parts_[0]->metadata(); }
  std::span<const TensorEntry> tensors() const override { return entries_; }
  const TensorEntry* find(std::string_view name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &entries_[found->second];
  }
  void release_pages() const override {
    for (const auto& part : parts_) part->release_pages();
  }
  tokenizer::Vocabulary vocabulary() const override { return parts_[0]->vocabulary(); }
  std::optional<std::string> chat_template() const override { return parts_[0]->chat_template(); }

 private:
  std::filesystem::path path_;
  std::vector<std::unique_ptr<WeightFile>> parts_;
  std::vector<TensorEntry> entries_;            // of all parts, in their order; data points into their files
  std::map<std::string_view, size_t> by_name_;  // keys are views of entries_
};

}  // namespace

bool is_gguf_part(const WeightFile& file) { return part_count(file) > 1; }

std::vector<std::filesystem::path> gguf_part_paths(const std::filesystem::path& path,
                                                   const WeightFile& part) {
  const int64_t count = part_count(part);
  const auto name = shard_name(path.filename().string());
  if (!name || name->count != count)
    throw refuse("split_name",
                 "the file is one of {} parts (split.count) and must be called like name-00001-of-{:05}.gguf",
                 count, count);
  std::vector<std::filesystem::path> paths;
  for (int64_t i = 1; i <= count; ++i) {
    paths.push_back(path.parent_path() / name->file(i));
    if (std::error_code error; !std::filesystem::exists(paths.back(), error))
      throw make_error(ErrorCode::not_found, "{} is missing, one of the model's {} parts",
                       file_name(paths.back()), count)
          .with_reason("shard_missing");
  }
  return paths;
}

std::unique_ptr<WeightFile> join_gguf_parts(const std::filesystem::path& path,
                                            std::vector<std::unique_ptr<WeightFile>> parts) {
  check(!parts.empty(), "a set has parts");
  return std::make_unique<SplitFile>(path, std::move(parts));
}

}  // namespace neutrino::weights
