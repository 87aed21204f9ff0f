#include "weights/checkpoint_folder.h"

#include "base/limits.h"
#include "tokenizer/tokenizer_json.h"
#include "weights/reader.h"
#include "weights/shard_name.h"

namespace neutrino::weights {
namespace {

Error in_file(const Error& error, std::string_view name) {
  return Error(error.code(), fmt::format("{}: {}", name, error.message())).with_reason(error.reason());
}

// One folder inside the checkpoint's: "1_Pooling".
bool is_module_path(std::string_view path) {
  return is_name(path) && path.find_first_of("/\\:") == path.npos && !path.starts_with('.') &&
         path.size() <= size_t{limits::kSafetensorsNameBytes};
}

std::string text_field(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  return value && value->is_string() ? std::string(value->get_string()) : std::string();
}

SafetensorsSet open_weights(const std::filesystem::path& path, const std::filesystem::path& folder,
                            Links links) {
  if (path == folder) return open_safetensors_folder(folder, links);
  const std::string file = path.filename().string();
  std::vector<std::string> files = {file};
  if (const auto shard = shard_name(file)) {
    files.clear();
    for (int64_t i = 1; i <= shard->count; ++i) files.push_back(shard->file(i));
  }
  SafetensorsSet set;
  set.open(folder, files, links);
  return set;
}

// One of several chat templates: [{"name": "default", "template": "..."}, ...].
std::optional<std::string> default_template(const json::array& templates) {
  for (const json::value& entry : templates)
    if (entry.is_object() && text_field(entry.get_object(), "name") == "default")
      return text_field(entry.get_object(), "template");
  return std::nullopt;
}

// Python writes numbers that JSON does not have, as in Nemotron-H's "time_step_limit": [0.0, Infinity]: they become null.
std::string without_python_constants(std::string text) {
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (in_string && text[i] == '\\') {
      ++i;
      continue;
    }
    if (text[i] == '"') in_string = !in_string;
    for (const std::string_view constant : {"-Infinity", "Infinity", "NaN"})
      if (!in_string && std::string_view(text).substr(i).starts_with(constant))
        text.replace(i, constant.size(), "null");
  }
  return text;
}

}  // namespace

CheckpointFolder::CheckpointFolder(const std::filesystem::path& path, Links links)
    : folder_(std::filesystem::is_directory(path) ? path : path.parent_path()), links_(links) {
  const auto config = text("config.json", limits::kConfigBytes);
  if (!config)
    throw refuse("config_missing", "there is no config.json beside the weights: a checkpoint needs one");
  config_ = object("config.json", *config);
  tensors_ = open_weights(path, folder_, links_);
  open_sentence_transformers();
}

std::optional<std::string> CheckpointFolder::text(std::string_view name, int64_t limit) const {
  std::error_code error;
  if (!std::filesystem::exists(folder_ / name, error)) return std::nullopt;
  return read_file(folder_ / name, static_cast<size_t>(limit), links_);
}

json::object CheckpointFolder::object(std::string_view name, const std::string& content) const {
  try {
    json::value value = parse_json(without_python_constants(content));
    if (!value.is_object()) throw refuse("config_field", "a JSON object was expected");
    return std::move(value.get_object());
  } catch (const Error& error) {
    throw in_file(error, name);
  }
}

// A folder of sentence-transformers lists its modules: the transformer itself, then pooling, dense layers, normalisation.
void CheckpointFolder::open_sentence_transformers() {
  const auto list = text("modules.json", limits::kConfigBytes);
  if (!list) return;
  const json::value modules = parse_json(*list);
  if (!modules.is_array()) throw refuse("config_field", "modules.json: a list was expected");
  json::array read;
  for (const json::value& module : modules.get_array()) {
    if (!module.is_object()) throw refuse("config_field", "modules.json: a list of objects was expected");
    const std::string path = text_field(module.get_object(), "path");
    json::object entry{
        {"path", path}, {"type", text_field(module.get_object(), "type")}, {"config", json::object()}};
    if (!path.empty()) {
      if (!is_module_path(path))
        throw refuse("module_path", "modules.json: a path must be the plain name of a folder, got {}",
                     in_quotes(path));
      if (const auto config = text(path + "/config.json", limits::kConfigBytes))
        entry["config"] = object(path + "/config.json", *config);
      std::error_code error;
      if (const auto weights = folder_ / path / "model.safetensors"; std::filesystem::exists(weights, error))
        tensors_.add(weights, path + ".", links_);
    }
    read.push_back(std::move(entry));
  }
  config_["sentence_transformers"] = std::move(read);
}

// The hub's cache calls the folder by its revision, and the one two above it by the model.
std::string CheckpointFolder::name() const {
  std::error_code error;
  const std::filesystem::path folder = std::filesystem::absolute(folder_, error).lexically_normal();
  const std::filesystem::path named = folder.has_filename() ? folder : folder.parent_path();
  std::string name = named.filename().string();
  if (named.parent_path().filename() == "snapshots")
    name = named.parent_path().parent_path().filename().string();
  if (const auto dashes = name.rfind("--"); name.starts_with("models--") && dashes != name.npos)
    name = name.substr(dashes + 2);
  return printable(name, 120);
}

std::optional<std::string> CheckpointFolder::license() const {
  std::string readme;
  try {
    readme = text("README.md", limits::kConfigBytes).value_or("");
  } catch (const Error&) {
    return std::nullopt;  // a card is no part of the model
  }
  const auto end = readme.starts_with("---\n") ? readme.find("\n---", 3) : std::string::npos;
  if (end == std::string::npos) return std::nullopt;
  const std::string header = readme.substr(3, end - 3);
  const auto at = header.find("\nlicense: ");
  if (at == std::string::npos) return std::nullopt;
  const auto value = at + std::string_view("\nlicense: ").size();
  return printable(header.substr(value, header.find('\n', value) - value), 80);
}

tokenizer::Vocabulary CheckpointFolder::vocabulary() const {
  const auto json = text("tokenizer.json", limits::kTokenizerJsonBytes);
  if (!json)
    throw make_error(ErrorCode::not_found,
                     "there is no tokenizer.json beside the weights: a tokenizer is read from it")
        .with_reason("vocabulary_missing");
  try {
    return tokenizer::read_tokenizer_json(*json,
                                          text("tokenizer_config.json", limits::kConfigBytes).value_or(""),
                                          text("special_tokens_map.json", limits::kConfigBytes).value_or(""),
                                          text("generation_config.json", limits::kConfigBytes).value_or(""));
  } catch (const Error& error) {
    throw in_file(error, "tokenizer.json");
  }
}

std::optional<std::string> CheckpointFolder::chat_template() const {
  if (auto jinja = text("chat_template.jinja", limits::kTemplateSourceBytes)) return jinja;
  for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
    const auto content = text(file, limits::kConfigBytes);
    if (!content) continue;
    const json::object config = object(file, *content);
    const json::value* value = config.if_contains("chat_template");
    if (!value || value->is_null()) continue;
    if (value->is_string()) return std::string(value->get_string());
    if (!value->is_array())
      throw refuse("config_field", "{}: chat_template must be a string or a list", file);
    return default_template(value->get_array());
  }
  return std::nullopt;
}

}  // namespace neutrino::weights
