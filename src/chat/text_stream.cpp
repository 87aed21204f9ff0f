#include "chat/text_stream.h"

#include <algorithm>

namespace neutrino::chat {

TextStream::TextStream(const tokenizer::Tokenizer& tokenizer, TextStreamOptions options)
    : decoder_(tokenizer, options.skip_special_tokens, tokenizer::TextStart::continued),
      options_(std::move(options)),
      stops_(options_.stop) {}

bool TextStream::push(GeneratedToken token) {
  token.text.clear();
  decoder_.push(token.token, token.text);
  const size_t begin = pending_.size();
  pending_ += token.text;
  held_.push_back(std::move(token));
  if (++tokens_seen_ > options_.min_tokens && search(pending_, begin)) return true;
  release(pending_.size() - stops_.held_bytes());
  return false;
}

void TextStream::push_silent(GeneratedToken token) {
  finish();
  token.text.clear();
  ++tokens_seen_;
  released_.push_back(std::move(token));
}

bool TextStream::search(std::string_view text, size_t begin) {
  const std::optional<size_t> end = stops_.search(text.substr(begin));
  if (end) end_at_match(begin + *end);
  return end.has_value();
}

// Cuts the text before (or behind) the match. The tokens behind the cut stay, with what text is left to them.
void TextStream::end_at_match(size_t end) {
  matched_ = stops_.matched();
  pending_.resize(options_.include_stop ? end : end - matched_.size());
  size_t offset = 0;
  for (GeneratedToken& token : held_) {
    const size_t size = token.text.size();
    token.text.resize(std::min(size, pending_.size() - std::min(offset, pending_.size())));
    offset += size;
  }
  release_all();
}

// The newest token stays while the decoder holds the start of a character: what becomes of it is that token's text, too.
void TextStream::release(size_t certain) {
  const size_t most = held_.size() - (decoder_.held_bytes() > 0 ? 1 : 0);
  size_t count = 0, offset = 0;
  for (; count < most && offset + held_[count].text.size() <= certain; ++count)
    offset += held_[count].text.size();
  const auto end = held_.begin() + static_cast<ptrdiff_t>(count);
  std::move(held_.begin(), end, std::back_inserter(released_));
  held_.erase(held_.begin(), end);
  pending_.erase(0, offset);
}

void TextStream::release_all() {
  std::move(held_.begin(), held_.end(), std::back_inserter(released_));
  held_.clear();
  pending_.clear();
}

void TextStream::finish() {
  if (!held_.empty()) decoder_.finish(held_.back().text);
  release_all();
}

void TextStream::take(std::string& text, std::vector<GeneratedToken>& tokens) {
  for (const GeneratedToken& token : released_) text += token.text;
  std::move(released_.begin(), released_.end(), std::back_inserter(tokens));
  released_.clear();
}

}  // namespace neutrino::chat
