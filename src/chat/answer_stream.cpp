#include "chat/answer_stream.h"

#include <iterator>
#include <limits>

namespace neutrino::chat {

AnswerStream::AnswerStream(const tokenizer::Tokenizer& tokenizer, TextStreamOptions options,
                           std::shared_ptr<const AnswerSyntax> syntax, const std::string& id)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      decoder_(tokenizer, false, tokenizer::TextStart::continued),
      parser_(syntax, id),
      stops_(options_.stop),
      search_from_(options_.min_tokens > 0 ? std::numeric_limits<size_t>::max() : 0) {
  for (const std::string_view marker : answer_markers(*syntax))
    if (const auto token = tokenizer.find(marker); token && tokenizer.is_special(*token))
      markers_.push_back(*token);
}

bool AnswerStream::is_text(int32_t token) const {
  return !options_.skip_special_tokens || !tokenizer_.is_special(token) ||
         std::ranges::find(markers_, token) != markers_.end();
}

bool AnswerStream::push(GeneratedToken token) {
  if (tokens_seen_++ == options_.min_tokens) search_from_ = raw_bytes_;
  std::string text;
  const size_t before = is_text(token.token) ? give_up_character(token.token, text) : 0;
  if (is_text(token.token)) decoder_.push(token.token, text);
  token.text.clear();
  token.part = TokenPart::markup;  // unless content or reasoning comes of it
  tokens_.push_back({std::move(token), raw_bytes_ + before, raw_bytes_ + text.size()});
  return add_text(text);
}

// A character that this token cannot go on with is text of the tokens before it.
size_t AnswerStream::give_up_character(int32_t token, std::string& text) {
  const std::string_view bytes = tokenizer_.bytes(token);
  const bool goes_on = bytes.empty() || (static_cast<unsigned char>(bytes.front()) & 0xC0) == 0x80;
  if (goes_on || decoder_.held_bytes() == 0 || tokens_.empty()) return 0;
  decoder_.finish(text);
  tokens_.back().end += text.size();
  return text.size();
}

void AnswerStream::push_silent(GeneratedToken token) {
  ++tokens_seen_;
  token.text.clear();
  tokens_.push_back({std::move(token), raw_bytes_, raw_bytes_});
}

bool AnswerStream::add_text(std::string_view text) {
  raw_bytes_ += text.size();
  parser_.push(text);
  if (take_pieces()) return true;
  release_tokens(false);
  return false;
}

void AnswerStream::finish() {
  std::string text;
  decoder_.finish(text);
  if (!text.empty() && !tokens_.empty()) tokens_.back().end += text.size();
  const bool ended = !matched_.empty() || add_text(text);
  parser_.finish();
  if (!ended && !take_pieces()) release_all_content();
  release_tokens(true);
}

// True: a stop string was found; what follows is not part of the answer.
bool AnswerStream::take_pieces() {
  for (ReadPiece& read : parser_.take()) {
    if (read.piece.kind == AnswerPiece::Kind::content) {
      if (add_content(std::move(read))) return true;
      continue;
    }
    release_all_content();
    stops_.reset();
    add_piece(std::move(read.piece));
  }
  return false;
}

bool AnswerStream::add_content(ReadPiece piece) {
  for (Token& token : tokens_)
    if (token.touches(piece.begin, piece.end)) token.token.part = TokenPart::content;
  const size_t size = piece.piece.text.size();
  const size_t early = search_from_ > piece.begin ? std::min(size, search_from_ - piece.begin) : 0;
  const auto match = stops_.search(std::string_view(piece.piece.text).substr(early));
  if (match) {
    piece.piece.text.resize(early + *match);
    piece.end = piece.begin + piece.piece.text.size();
  }
  held_bytes_ += piece.piece.text.size();
  held_.push_back(std::move(piece));
  if (match)
    end_at_match();
  else
    release_content(held_bytes_ - stops_.held_bytes());
  return match.has_value();
}

void AnswerStream::end_at_match() {
  matched_ = stops_.matched();
  release_content(held_bytes_ - (options_.include_stop ? 0 : matched_.size()));
  held_.clear();
  held_bytes_ = 0;
  release_tokens(true);
}

void AnswerStream::release_content(size_t bytes) {
  held_bytes_ -= bytes;
  while (bytes > 0) {
    ReadPiece& first = held_.front();
    const size_t size = std::min(bytes, first.piece.text.size());
    const std::string text = first.piece.text.substr(0, size);
    for (Token& token : tokens_) {
      if (!token.touches(first.begin, first.begin + size)) continue;
      const size_t begin = std::max(token.begin, first.begin), end = std::min(token.end, first.begin + size);
      if (end > begin) token.token.text += text.substr(begin - first.begin, end - begin);
      token.shown = true;
    }
    add_piece({.text = text});
    first.piece.text.erase(0, size);
    first.begin += size;
    bytes -= size;
    if (first.piece.text.empty()) held_.erase(held_.begin());
  }
}

void AnswerStream::release_all_content() { release_content(held_bytes_); }

// Pieces of one kind become one.
void AnswerStream::add_piece(AnswerPiece piece) {
  using Kind = AnswerPiece::Kind;
  const bool text = piece.kind != Kind::call_begin && piece.kind != Kind::call_end;
  if (text && !pieces_.empty() && pieces_.back().kind == piece.kind && pieces_.back().call == piece.call)
    pieces_.back().text += piece.text;
  else
    pieces_.push_back(std::move(piece));
}

void AnswerStream::release_tokens(bool all) {
  const size_t decided = held_.empty() ? parser_.certain() : held_.front().begin;
  while (!tokens_.empty()) {
    Token& first = tokens_.front();
    const size_t end = std::max(first.end, first.begin + 1);
    if (!all && !first.shown && end > decided) return;
    if (first.token.part != TokenPart::content && parser_.in_reasoning(first.begin, end)) {
      first.token.part = TokenPart::reasoning;
      ++reasoning_tokens_;
    }
    released_.push_back(std::move(first.token));
    tokens_.pop_front();
  }
}

void AnswerStream::take(GenerationChunk& chunk) {
  for (AnswerPiece& piece : pieces_) {
    if (piece.kind == AnswerPiece::Kind::content) chunk.text += piece.text;
    chunk.pieces.push_back(std::move(piece));
  }
  pieces_.clear();
  std::ranges::move(released_, std::back_inserter(chunk.tokens));
  released_.clear();
}

}  // namespace neutrino::chat
