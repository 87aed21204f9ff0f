// Token by token to text that is always valid UTF-8.
//
// A token may end in the middle of a character. The decoder holds such bytes back until the character is whole, and turns
// bytes that can never become one into U+FFFD. The concatenation of all pieces equals tokenizer::decode() of all ids.
#pragma once

#include <string>
#include <string_view>

#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

// Some tokenizers put a space before every text, which decoding leaves out again. What a model generates is not a whole text: it
// goes on where its prompt ended, and keeps the space.
enum class TextStart { beginning, continued };

class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special, TextStart start = TextStart::beginning)
      : tokenizer_(tokenizer), skip_special_(skip_special), start_(start) {}

  void push(int32_t id, std::string& out);  // appends the text that is certain now, maybe none
  void finish(std::string& out);            // appends U+FFFD for an unfinished character
  size_t held_bytes() const { return held_.size(); }

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  TextStart start_;   // becomes `continued` with the first token
  std::string held_;  // < 4 bytes: the start of an unfinished character
};

// Appends `bytes` to `out` as valid UTF-8, keeping an unfinished tail in `held` (used by both decoders).
void append_utf8(std::string& held, std::string_view bytes, std::string& out);

}  // namespace neutrino::tokenizer
