#include "chat/text_stream.h"

#include <algorithm>

namespace neutrino::chat {

TextStream::TextStream(const tokenizer::Tokenizer& tokenizer, TextStreamOptions options)
    : decoder_(tokenizer, options.skip_special_tokens, tokenizer::TextStart::continued),
      options_(std::move(options)) {
  for (const std::string& stop : options_.stop) {
    Automaton automaton{.pattern = stop, .failure = std::vector<int32_t>(stop.size(), 0), .state = 0};
    for (size_t i = 1, border = 0; i < stop.size(); ++i) {
      while (border > 0 && stop[i] != stop[border])
        border = static_cast<size_t>(automaton.failure[border - 1]);
      border += stop[i] == stop[border];
      automaton.failure[i] = static_cast<int32_t>(border);
    }
    automata_.push_back(std::move(automaton));
  }
}

bool TextStream::Automaton::step(char byte) {
  while (state > 0 && pattern[static_cast<size_t>(state)] != byte)
    state = failure[static_cast<size_t>(state) - 1];
  state += pattern[static_cast<size_t>(state)] == byte;
  return static_cast<size_t>(state) == pattern.size();
}

bool TextStream::push(GeneratedToken token) {
  token.text.clear();
  decoder_.push(token.token, token.text);
  const size_t begin = pending_.size();
  pending_ += token.text;
  held_.push_back(std::move(token));
  if (++tokens_seen_ > options_.min_tokens && search(pending_, begin)) return true;
  release(pending_.size() - held_bytes());
  return false;
}

void TextStream::push_silent(GeneratedToken token) {
  finish();
  token.text.clear();
  ++tokens_seen_;
  released_.push_back(std::move(token));
}

// Runs the automata over the new bytes. Of several that are complete at the same byte, the longest began first.
bool TextStream::search(std::string_view text, size_t begin) {
  for (size_t i = begin; i < text.size(); ++i) {
    const Automaton* complete = nullptr;
    for (Automaton& automaton : automata_)
      if (automaton.step(text[i]) &&
          (complete == nullptr || automaton.pattern.size() > complete->pattern.size()))
        complete = &automaton;
    if (complete == nullptr) continue;
    end_at_match(i + 1, *complete);
    return true;
  }
  return false;
}

// Cuts the text before (or behind) the match. The tokens behind the cut stay, with what text is left to them.
void TextStream::end_at_match(size_t end, const Automaton& automaton) {
  matched_ = automaton.pattern;
  pending_.resize(options_.include_stop ? end : end - matched_.size());
  size_t offset = 0;
  for (GeneratedToken& token : held_) {
    const size_t size = token.text.size();
    token.text.resize(std::min(size, pending_.size() - std::min(offset, pending_.size())));
    offset += size;
  }
  release_all();
}

size_t TextStream::held_bytes() const {
  int32_t held = 0;
  for (const Automaton& automaton : automata_) held = std::max(held, automaton.state);
  return static_cast<size_t>(held);
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
