// The raw text of an answer, as it comes, to its pieces: reasoning, content, tool calls.
//
// The raw text has the texts of those special tokens that are markup of the syntax. Pieces do not depend on how the text was cut, apart
// from where they are cut themselves. Nothing is lost: what looked like a call and is none is content, and failed() says so.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "chat/answer_syntax.h"

namespace neutrino::chat {

class AnswerParser {
 public:
  // Ids of calls are made from `id`: the generation's.
  AnswerParser(std::shared_ptr<const AnswerSyntax> syntax, std::string id);

  void push(std::string_view text);                                 // UTF-8, whole characters
  void finish();                                                    // no more text
  std::vector<ReadPiece> take() { return reading_.take_pieces(); }  // since the last call, in order

  size_t certain() const { return reading_.certain(); }  // bytes of raw text whose pieces were all given out
  bool in_reasoning(size_t begin, size_t end) const { return reading_.in_reasoning(begin, end); }
  bool failed() const { return reading_.failed(); }

 private:
  static Reader<> read(Reading& r, const AnswerSyntax& syntax);

  std::shared_ptr<const AnswerSyntax> syntax_;
  Reading reading_;
  Reader<> reader_;
};

// The texts of special tokens that such an answer's reader wants to see.
std::vector<std::string_view> answer_markers(const AnswerSyntax& syntax);

}  // namespace neutrino::chat
