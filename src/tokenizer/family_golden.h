// For tests: the small tokenizers of tests/golden/tokenizer/families/.
#pragma once

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "tokenizer/test_vocabulary.h"
#include "tokenizer/tokenizer_json.h"

namespace neutrino::tokenizer {

inline std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const auto& file :
       std::filesystem::directory_iterator(NEUTRINO_SOURCE_DIR "/tests/golden/tokenizer/families"))
    names.push_back(file.path().stem().string());
  std::ranges::sort(names);
  return names;
}

inline std::vector<int32_t> ids_of(const json::value& list) {
  std::vector<int32_t> ids;
  for (const auto& id : list.as_array()) ids.push_back(static_cast<int32_t>(id.as_int64()));
  return ids;
}

// A BPE vocabulary is kept as its first tokens and its merges as pairs of ids, each of which makes the next token.
inline void unpack_model(json::object& model) {
  if (!model.contains("first_tokens")) return;
  std::vector<std::string> tokens;
  json::object vocab;
  const auto add = [&](std::string text) {
    if (vocab.contains(text)) return;  // a later merge that makes it too
    vocab[text] = static_cast<int64_t>(tokens.size());
    tokens.push_back(std::move(text));
  };
  for (const json::value& text : model.at("first_tokens").as_array()) add(std::string(text.as_string()));
  json::array merges;
  const std::vector<int32_t> ids = ids_of(model.at("merges"));
  for (size_t i = 0; i + 1 < ids.size(); i += 2) {
    const std::string left = tokens.at(static_cast<size_t>(ids[i])),
                      right = tokens.at(static_cast<size_t>(ids[i + 1]));
    merges.push_back(json::array{json::value(left), json::value(right)});
    add(left + right);
  }
  model.erase("first_tokens");
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(merges);
}

// The text of the family's tokenizer.json.
inline std::string family_json(const json::value& golden) {
  json::value file = golden.at("tokenizer");
  unpack_model(file.as_object().at("model").as_object());
  return to_text(file);
}

inline Vocabulary family_vocabulary(const json::value& golden) {
  return read_tokenizer_json(family_json(golden));
}

}  // namespace neutrino::tokenizer
