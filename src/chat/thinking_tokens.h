// What the engine needs to know of a model's reasoning tags, to bound what stands between them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "chat/reasoning.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::chat {

// Made once a model.
struct ThinkingTokens {
  std::string open, close;            // the tags' texts
  int32_t open_token = -1;            // the first of the open tag, if that is a token of its own; else -1
  std::vector<int32_t> close_tokens;  // what is forced: the tag
  std::vector<int32_t> after_tokens;  // and before a constrained answer, what usually stands behind it
  bool in_grammar = false;            // an answer's grammar has the reasoning in it (harmony)
  std::vector<bool> ends_sentence;    // of each token: may reasoning well end behind it?
  std::vector<bool>
      closes_with_text;  // of each token: could it be a tag's end and then text? A grammar would miss that text
  const tokenizer::Tokenizer* tokenizer = nullptr;
};

// The tokenizer outlives the result.
std::shared_ptr<const ThinkingTokens> make_thinking_tokens(const ReasoningTags& tags,
                                                           const tokenizer::Tokenizer& tokenizer);

}  // namespace neutrino::chat
