// From tokens to certain text: the streaming decoder and the stop strings.
//
// A stop string may begin at the end of what is there and be completed by tokens to come, or not. Text is released as soon as
// it can no longer be part of a stop string, in whole tokens, so that each released token comes with exactly the text it
// made: the texts of all released tokens, one after the other, are the released text.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "chat/chat_model.h"
#include "chat/stop_strings.h"
#include "tokenizer/stream_decoder.h"

namespace neutrino::chat {

struct TextStreamOptions {
  std::vector<std::string> stop = {};  // none of them empty
  bool include_stop = false;           // does the matched string stay at the end of the text?
  bool skip_special_tokens = true;
  int64_t min_tokens = 0;  // the first so many tokens take no part in a match
};

class TextStream {
 public:
  TextStream(const tokenizer::Tokenizer& tokenizer, TextStreamOptions options);

  // The next token; its text is filled in here. True: it completed a stop string, which ends the text; push no more.
  bool push(GeneratedToken token);
  // A token that counts, but is not text: an end token.
  void push_silent(GeneratedToken token);
  // There will be no more: releases everything.
  void finish();

  // Moves what is released into `text` and `tokens`, behind what they hold.
  void take(std::string& text, std::vector<GeneratedToken>& tokens);
  const std::string& matched() const { return matched_; }  // the stop string that ended the text, or ""
  int64_t tokens_seen() const { return tokens_seen_; }     // pushed so far

 private:
  bool search(std::string_view text, size_t begin);
  void end_at_match(size_t end);
  void release(size_t certain);  // whole tokens inside the first `certain` bytes of pending_
  void release_all();

  tokenizer::StreamDecoder decoder_;
  const TextStreamOptions options_;
  StopStrings stops_;
  std::vector<GeneratedToken> held_;  // not released; their texts are pending_
  std::string pending_;
  std::vector<GeneratedToken> released_;
  std::string matched_;
  int64_t tokens_seen_ = 0;
};

}  // namespace neutrino::chat
