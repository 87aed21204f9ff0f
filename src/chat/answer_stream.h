// From tokens to the certain pieces of an answer that is taken apart: decoder, parser, stop strings.
//
// Stop strings are searched in the content alone, in each stretch of it between calls. Special tokens are text only where they are
// markup that the parser reads, or where they are to be shown. A token is released with the first of its content, or once all of
// its text is decided.
#pragma once

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "chat/answer_parser.h"
#include "chat/stop_strings.h"
#include "chat/text_stream.h"
#include "tokenizer/stream_decoder.h"

namespace neutrino::chat {

class AnswerStream {
 public:
  // The tokenizer outlives this object. `id`: of the generation; ids of calls come from it.
  AnswerStream(const tokenizer::Tokenizer& tokenizer, TextStreamOptions options,
               std::shared_ptr<const AnswerSyntax> syntax, const std::string& id);

  // The next token. True: it completed a stop string, which ends the answer; push no more.
  bool push(GeneratedToken token);
  void push_silent(GeneratedToken token);  // one that counts, but is not text: an end token
  void finish();                           // there will be no more: releases everything

  void take(GenerationChunk& chunk);  // moves what is released into text, pieces and tokens
  const std::string& matched() const { return matched_; }
  int64_t tokens_seen() const { return tokens_seen_; }
  int64_t reasoning_tokens() const { return reasoning_tokens_; }  // of the released ones
  bool failed() const { return parser_.failed(); }

 private:
  struct Token {
    GeneratedToken token;
    size_t begin = 0, end = 0;  // its raw text; a token without text counts with the character that follows
    bool shown = false;         // some of its content is released
    bool touches(size_t first, size_t last) const { return begin < last && first < std::max(end, begin + 1); }
  };

  bool is_text(int32_t token) const;
  size_t give_up_character(int32_t token, std::string& text);
  bool add_text(std::string_view text);
  bool take_pieces();
  bool add_content(ReadPiece piece);
  void end_at_match();
  void release_content(size_t bytes);  // of held_
  void release_all_content();
  void release_tokens(bool all);
  void add_piece(AnswerPiece piece);

  const tokenizer::Tokenizer& tokenizer_;
  const TextStreamOptions options_;
  std::vector<int32_t> markers_;  // special tokens that the parser reads
  tokenizer::StreamDecoder decoder_;
  AnswerParser parser_;
  StopStrings stops_;
  size_t raw_bytes_ = 0;             // of the raw text so far
  size_t search_from_ = 0;           // where the raw text of the tokens begins in which stop strings count
  std::deque<Token> tokens_;         // not released
  std::vector<ReadPiece> held_;      // content that may become a stop string
  size_t held_bytes_ = 0;            // of it
  std::vector<AnswerPiece> pieces_;  // released
  std::vector<GeneratedToken> released_;
  std::string matched_;
  int64_t tokens_seen_ = 0, reasoning_tokens_ = 0;
};

}  // namespace neutrino::chat
