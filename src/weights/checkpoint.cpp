#include "weights/checkpoint.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/json.h"
#include "base/limits.h"
#include "tokenizer/tokenizer_json.h"
#include "weights/checkpoint_folder.h"
#include "weights/checkpoint_source.h"
#include "weights/checkpoint_transform.h"
#include "weights/layouts/layout.h"
#include "weights/metadata_values.h"
#include "weights/reader.h"

namespace neutrino::weights {
namespace {

using compute::DType;

std::vector<std::string> names_of(const Sources& sources) {
  std::vector<std::string> names;
  for (const auto& [name, source] : sources) names.push_back(name);
  return names;
}

class CheckpointFile final : public WeightFile {
 public:
  CheckpointFile(const std::filesystem::path& path, Links links) : path_(path), folder_(path, links) {
    sources_ = make_sources(folder_.tensors(), folder_.config());
    Layout layout(folder_.config(), names_of(sources_));
    find_layout(folder_.config())(layout);
    layout.check_complete();
    for (const TensorRule& rule : layout.rules()) add(rule);
    for (const auto& [name, values] : layout.constants()) add_constant(name, values);
    index_names();
    set_metadata(layout);
  }

  const std::filesystem::path& path() const override { return path_; }
  std::string_view format() const override { return "safetensors"; }
  const Metadata& metadata() const override { return metadata_; }
  std::span<const TensorEntry> tensors() const override { return entries_; }
  const TensorEntry* find(std::string_view name) const override {
    const auto found = by_name_.find(name);
    return found == by_name_.end() ? nullptr : &entries_[found->second];
  }

  void release_pages() const override {
    for (const MappedFile& file : folder_.tensors().files()) file.release_pages();
  }

  TensorData read(const TensorEntry& tensor) const override {
    if (tensor.data) return {tensor.data};
    return made_.at(tensor.name).read();
  }
  TensorData read_slice(const TensorEntry& tensor, int64_t index) const override {
    if (tensor.data) return WeightFile::read_slice(tensor, index);
    return made_.at(tensor.name).read_slice(index);
  }

  // A model may have more embeddings than its tokenizer has tokens; every row gets a token, as GGUF wants it.
  tokenizer::Vocabulary vocabulary() const override {
    tokenizer::Vocabulary vocabulary = folder_.vocabulary();
    const TensorEntry* table = find("token_embd.weight");
    const int64_t rows = table ? table->shape[0] : 0;
    if (rows > limits::kVocabularyTokens)
      throw refuse("vocabulary_size", "the model must have at most {} tokens, got {}",
                   limits::kVocabularyTokens, rows);
    if (vocabulary.kinds.empty() && rows > static_cast<int64_t>(vocabulary.tokens.size()))
      vocabulary.kinds.resize(vocabulary.tokens.size(), tokenizer::TokenKind::normal);
    for (auto id = static_cast<int64_t>(vocabulary.tokens.size()); id < rows; ++id) {
      vocabulary.tokens.push_back(fmt::format("[PAD{}]", id));
      vocabulary.kinds.push_back(tokenizer::TokenKind::unused);
      if (!vocabulary.scores.empty()) vocabulary.scores.push_back(0);
    }
    return vocabulary;
  }
  std::optional<std::string> chat_template() const override { return folder_.chat_template(); }

 private:
  void add(const TensorRule& rule) {
    CanonicalTensor tensor(rule, sources_);
    entries_.push_back(tensor.entry());
    if (tensor.entry().dtype == DType::nvfp4) add_constant(scale_name(rule.name), tensor.scales());
    if (!tensor.entry().data) made_.emplace(rule.name, std::move(tensor));
  }

  // "blk.0.attn_q.weight" has its scale in "blk.0.attn_q.scale".
  static std::string scale_name(std::string_view name) {
    constexpr std::string_view kWeight = ".weight";
    if (name.ends_with(kWeight)) name.remove_suffix(kWeight.size());
    return std::string(name) + ".scale";
  }

  void add_constant(const std::string& name, std::vector<float> values) {
    constants_.push_back(std::make_unique<std::vector<float>>(std::move(values)));
    const std::vector<float>& kept = *constants_.back();
    entries_.push_back({.name = name,
                        .dtype = DType::f32,
                        .shape = {static_cast<int64_t>(kept.size())},
                        .data = reinterpret_cast<const std::byte*>(kept.data()),
                        .bytes = static_cast<int64_t>(kept.size() * sizeof(float))});
  }

  void index_names() {
    for (size_t i = 0; i < entries_.size(); ++i)
      if (!by_name_.emplace(entries_[i].name, i).second)
        throw refuse("duplicate_tensor", "two tensors of the checkpoint become {}",
                     in_quotes(entries_[i].name));
  }

  void set_metadata(const Layout& layout) {
    auto values = layout.metadata();
    const auto has = [&](std::string_view key) {
      return std::any_of(values.begin(), values.end(), [&](const auto& entry) { return entry.first == key; });
    };
    if (!has("general.name")) values.emplace_back("general.name", folder_.name());
    if (const auto license = folder_.license(); license && !has("general.license"))
      values.emplace_back("general.license", *license);
    metadata_ = MetadataValues(std::move(values));
  }

  std::filesystem::path path_;
  CheckpointFolder folder_;
  Sources sources_;  // refer to folder_'s files
  MetadataValues metadata_;
  std::vector<TensorEntry> entries_;
  std::map<std::string_view, size_t> by_name_;                // keys are views of entries_
  std::map<std::string, CanonicalTensor, std::less<>> made_;  // those that are not read in place
  std::vector<std::unique_ptr<std::vector<float>>> constants_;
};

}  // namespace

std::unique_ptr<WeightFile> open_checkpoint(const std::filesystem::path& path, Links links) {
  return std::make_unique<CheckpointFile>(path, links);
}

}  // namespace neutrino::weights
