// The files of a checkpoint's folder: configuration, tokenizer, chat template, weights. Each is read with a limit and taken to
// be written by an enemy; nothing outside of the folder is opened.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"
#include "weights/safetensors.h"

namespace neutrino::weights {

class CheckpointFolder {
 public:
  // `path`: the folder, or one of its safetensors files. Reads config.json and opens the weights.
  CheckpointFolder(const std::filesystem::path& path, Links links);

  // config.json; with "sentence_transformers" where the folder is one (layouts/layout.h).
  const json::object& config() const { return config_; }
  const SafetensorsSet& tensors() const { return tensors_; }
  std::string name() const;  // "SmolLM2-135M-Instruct", of the folder or of the hub's cache around it
  std::optional<std::string> license() const;  // of README.md's header

  tokenizer::Vocabulary vocabulary() const;
  // chat_template.jinja, else tokenizer_config.json's chat_template (of several the one called "default").
  std::optional<std::string> chat_template() const;

 private:
  std::optional<std::string> text(std::string_view name, int64_t limit) const;
  json::object object(std::string_view name, const std::string& content) const;
  void open_sentence_transformers();

  std::filesystem::path folder_;
  Links links_;
  json::object config_;
  SafetensorsSet tensors_;
};

}  // namespace neutrino::weights
