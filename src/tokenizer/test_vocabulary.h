// For tests: the small trained vocabulary of tests/golden/tokenizer/tiny.json.
#pragma once

#include <algorithm>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

inline json::value read_tokenizer_golden(std::string_view name) {
  return parse_json(
      read_file(std::string(NEUTRINO_SOURCE_DIR "/tests/golden/tokenizer/").append(name), 16 << 20));
}

inline Vocabulary tiny_vocabulary(const json::value& golden, std::string_view pre) {
  Vocabulary v{.model = "gpt2", .pre = std::string(pre)};
  for (const auto& text : golden.at("tokens").as_array()) v.tokens.emplace_back(text.as_string());
  for (const auto& text : golden.at("merges").as_array()) v.merges.emplace_back(text.as_string());
  const auto& specials = golden.at("specials").as_array();
  for (const auto& text : golden.at("tokens").as_array())
    v.kinds.push_back(std::ranges::count(specials, text) ? TokenKind::control : TokenKind::normal);
  v.unknown = 0, v.bos = 1, v.eos = 2;
  return v;
}

}  // namespace neutrino::tokenizer
