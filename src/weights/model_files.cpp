#include "weights/model_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>

#include "base/error.h"
#include "base/limits.h"
#include "weights/reader.h"
#include "weights/shard_name.h"

namespace neutrino::weights {
namespace {

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return result;
}

bool matches_any(std::string_view name, const std::vector<std::string>& patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](const std::string& pattern) { return matches_glob(name, pattern); });
}

std::string_view base_name(std::string_view name) {
  const auto slash = name.rfind('/');
  return slash == name.npos ? name : name.substr(slash + 1);
}

}  // namespace

// Linear in the text for each '*': on a mismatch only the last star is tried further on.
bool matches_glob(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = pattern.npos, resume = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p, ++t;
    } else if (star != pattern.npos) {
      p = star + 1;
      t = ++resume;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

// ---- GGUF

std::vector<GgufSet> gguf_sets(const std::vector<std::string>& names) {
  std::map<std::string, GgufSet> sets;
  for (const std::string& name : names) {
    const std::string base = lower(base_name(name));
    if (!base.ends_with(".gguf") || base.find("mmproj") != base.npos || base.find("imatrix") != base.npos)
      continue;
    const auto shard = gguf_shard_name(name);
    if (!shard) sets[name] = {name.substr(0, name.size() - 5), {name}};
    if (!shard) continue;
    GgufSet& set = sets[shard->file(1)];
    if (!set.files.empty()) continue;
    set.title = shard->stem;
    for (int64_t part = 1; part <= shard->count; ++part) set.files.push_back(shard->file(part));
  }
  std::vector<GgufSet> result;
  for (auto& [name, set] : sets) {
    for (const std::string& file : set.files)
      if (std::find(names.begin(), names.end(), file) == names.end())
        throw make_error(ErrorCode::data_loss, "part {} of a split GGUF file is missing", in_quotes(file));
    result.push_back(std::move(set));
  }
  return result;
}

// ---- checkpoints

namespace {

// Of the folder itself.
constexpr std::string_view kCheckpointFiles[] = {
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "quantize_config.json",
    "quant_config.json",
    "hf_quant_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
    "adapter_config.json",
    "README.md",
    "LICENSE*",
    "LICENCE*",
    "NOTICE*",
    "USE_POLICY*",
    "*.safetensors.index.json",
};
// A module of sentence-transformers: "1_Pooling/config.json", "2_Dense/model.safetensors".
constexpr std::string_view kModulePatterns[] = {"?_*/config.json", "?_*/model.safetensors"};

bool contains(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool is_one_of(std::string_view name, std::span<const std::string_view> patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](std::string_view pattern) { return matches_glob(name, pattern); });
}

// Repositories often hold the same weights twice (other precisions, "consolidated" as Mistral has it): the names that
// transformers would load come first.
std::vector<std::string> safetensors_of(const std::vector<std::string>& names) {
  const auto select = [&](auto wanted) {
    std::vector<std::string> found;
    for (const std::string& name : names)
      if (name.find('/') == name.npos && name.ends_with(".safetensors") && wanted(name))
        found.push_back(name);
    return found;
  };
  if (contains(names, "model.safetensors.index.json"))
    return select([](std::string_view name) { return matches_glob(name, "model-*-of-*.safetensors"); });
  if (contains(names, "model.safetensors"))
    return select(
        [](std::string_view name) { return name == "model.safetensors" || name.starts_with("adapter_"); });
  return select([](std::string_view name) { return !name.starts_with("consolidated"); });
}

}  // namespace

std::vector<std::string> checkpoint_files(const std::vector<std::string>& names) {
  std::vector<std::string> files = safetensors_of(names);
  const bool has_config = contains(names, "config.json") || contains(names, "adapter_config.json");
  if (files.empty() || !has_config) return {};
  for (const std::string& name : names) {
    const bool is_inside = name.find('/') != name.npos;
    if (is_inside ? is_one_of(name, kModulePatterns) : is_one_of(name, kCheckpointFiles))
      files.push_back(name);
  }
  std::sort(files.begin(), files.end());
  return files;
}

// ---- the choice

namespace {

std::string titles(const std::vector<GgufSet>& sets) {
  std::string text;
  for (const GgufSet& set : sets) text += fmt::format("\n  {}", printable(set.title, 200));
  return text;
}

bool is_word_character(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; }

// The quantisation is a word of the title: "Q4_K" is not in "model-Q4_K_M".
bool has_quant(std::string_view title, std::string_view quant) {
  const std::string text = lower(title), word = lower(quant);
  for (auto at = text.find(word); at != text.npos; at = text.find(word, at + 1)) {
    const auto end = at + word.size();
    if ((at == 0 || !is_word_character(text[at - 1])) &&
        (end == text.size() || !is_word_character(text[end])))
      return true;
  }
  return false;
}

std::vector<GgufSet> with_quant(const std::vector<GgufSet>& sets, std::string_view quant) {
  std::vector<GgufSet> found;
  for (const GgufSet& set : sets)
    if (has_quant(set.title, quant)) found.push_back(set);
  return found;
}

std::vector<std::string> choose_quant(const std::vector<GgufSet>& sets, const std::string& quant) {
  const auto found = with_quant(sets, quant);
  if (found.size() == 1) return found[0].files;
  if (sets.empty())
    throw make_error(ErrorCode::not_found, "there is no GGUF file, so none of {}", in_quotes(quant));
  if (found.empty())
    throw make_error(ErrorCode::not_found, "no GGUF file is of {}; there are:{}", in_quotes(quant),
                     titles(sets));
  throw make_error(ErrorCode::invalid_argument, "{} names several GGUF files; choose one with --include:{}",
                   in_quotes(quant), titles(found));
}

std::vector<std::string> choose_default(const std::vector<std::string>& names) {
  if (auto checkpoint = checkpoint_files(names); !checkpoint.empty()) return checkpoint;
  const auto sets = gguf_sets(names);
  if (sets.size() == 1) return sets[0].files;
  const auto usual = with_quant(sets, "Q4_K_M");
  if (usual.size() == 1) return usual[0].files;
  if (!sets.empty())
    throw make_error(ErrorCode::invalid_argument,
                     "there are several GGUF files; choose one by its quantisation (REPOSITORY:Q8_0) or with "
                     "--include:{}",
                     titles(sets));
  for (const std::string& name : names)
    for (const std::string_view pickle : {".bin", ".pt", ".pth", ".pkl", ".ckpt", ".nemo"})
      if (name.ends_with(pickle))
        throw make_error(
            ErrorCode::failed_precondition,
            "the weights are pickles ({}), which can carry code and are never opened: a repository "
            "with safetensors or GGUF files is needed",
            printable(name, 200));
  throw make_error(ErrorCode::not_found,
                   "there is no model: neither a GGUF file nor config.json with safetensors files");
}

}  // namespace

std::vector<std::string> choose_files(const std::vector<std::string>& names, const FileChoice& choice) {
  std::vector<std::string> left;
  for (const std::string& name : names)
    if (!matches_any(name, choice.exclude) && (choice.include.empty() || matches_any(name, choice.include)))
      left.push_back(name);
  if (!choice.quant.empty()) return choose_quant(gguf_sets(left), choice.quant);
  if (choice.include.empty()) return choose_default(left);
  if (left.empty()) throw make_error(ErrorCode::not_found, "no file matches --include and --exclude");
  main_file(left);
  return left;
}

std::string main_file(const std::vector<std::string>& names) {
  if (contains(names, "config.json") || contains(names, "adapter_config.json")) return "";
  const auto sets = gguf_sets(names);
  if (sets.size() == 1) return sets[0].files[0];
  throw make_error(
      ErrorCode::invalid_argument,
      "the files must be one model, a GGUF file or config.json with safetensors files; they are {}",
      sets.empty() ? "neither" : "several GGUF files:" + titles(sets));
}

std::string title_of(const std::vector<std::string>& files) {
  const auto sets = gguf_sets(files);
  return sets.size() == 1 && main_file(files) != "" ? std::string(base_name(sets[0].title)) : "";
}

}  // namespace neutrino::weights
