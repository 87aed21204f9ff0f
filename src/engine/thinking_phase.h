// Where a sequence is in its reasoning: how many tokens that took, and when it is to end.
//
// A budget bounds the tokens between the tags. Near it, behind the end of a sentence, the closing tag is made ever more
// likely; when the budget is spent the tag is forced, token by token, and the answer goes on as if the model had closed it.
// Nothing is forced behind the tag but the line breaks before a constrained answer, so no tool call is ever cut. The tags are
// searched in the tokens' bytes, as a tag may be several tokens.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "chat/thinking_tokens.h"

namespace neutrino::engine {

struct ThinkingOptions {
  bool inside = false;                 // the prompt ends in reasoning
  std::optional<int64_t> budget = {};  // tokens between the tags
  bool before_grammar = false;         // a grammar begins behind the reasoning
};

class ThinkingPhase {
 public:
  // `outside`: no reasoning has begun, but it may, with the answer. `closing`: tokens are forced.
  enum class State : uint8_t { outside, inside, closing, done };

  ThinkingPhase(std::shared_ptr<const chat::ThinkingTokens> tokens, ThinkingOptions options);

  // The token that was chosen.
  void advance(int32_t token);
  State state() const { return state_; }
  int32_t forced() const;  // while closing: the token that alone may come
  // Added to the logit of close_token(): 0 far from the budget and inside of a sentence.
  float pressure() const;
  int32_t close_token() const { return tokens_->close_tokens[0]; }
  int32_t open_token() const { return tokens_->open_token; }
  const chat::ThinkingTokens& tokens() const { return *tokens_; }
  int64_t thought() const { return thought_; }  // tokens between the tags

 private:
  void look_for_open();
  void look_for_message();
  void end();
  void look_for_close();
  void close_if_spent();
  void force(const std::vector<int32_t>& tokens);

  std::shared_ptr<const chat::ThinkingTokens> tokens_;
  ThinkingOptions options_;
  State state_ = State::outside;
  std::string tail_;  // the end of the text: as much as may be a tag
  int64_t thought_ = 0;
  bool at_sentence_end_ = false;
  std::vector<int32_t> forced_;
  size_t next_forced_ = 0;
};

}  // namespace neutrino::engine
