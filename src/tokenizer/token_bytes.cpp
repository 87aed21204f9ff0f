#include "tokenizer/token_bytes.h"

#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

constexpr std::string_view kSpaceMark = "\u2581";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = text.find(from); at != text.npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

std::string piece_bytes(const Vocabulary& vocabulary, int32_t id, const Decoding& decoding) {
  if (token_kind(vocabulary, id) == TokenKind::byte) return byte_token_bytes(vocabulary, id);
  std::string text = vocabulary.tokens[static_cast<size_t>(id)];
  if (decoding.space_marks) replace_all(text, kSpaceMark, " ");
  return text;
}

// English as BERT's authors put it together again.
void clean_up(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> kRules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},   {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
  for (const auto& [from, to] : kRules) replace_all(text, from, to);
}

enum class Start { yes, no };

std::string word_bytes(const Vocabulary& vocabulary, int32_t id, const Decoding& decoding, Start start) {
  std::string text = vocabulary.tokens[static_cast<size_t>(id)];
  const bool plain = token_kind(vocabulary, id) == TokenKind::normal;
  const bool marked = plain && text.starts_with(kSpaceMark) && text != kSpaceMark;
  if (marked) text.erase(0, kSpaceMark.size());
  const bool word = marked || !plain || (text.starts_with('[') && text.ends_with(']'));
  if (start == Start::yes)
    text.insert(0, word ? "" : "##");
  else if (word)
    text.insert(0, " ");
  if (decoding.clean_up) clean_up(text);
  return text;
}

std::string drop_start(std::string text, Decoding::Start start) {
  if (start == Decoding::Start::drop_space && text.starts_with(' ')) text.erase(0, 1);
  if (start == Decoding::Start::drop_all_spaces) std::erase(text, ' ');
  return text;
}

}  // namespace

std::vector<std::string> token_bytes(const Vocabulary& vocabulary, const Decoding& decoding) {
  std::vector<std::string> bytes;
  bytes.reserve(vocabulary.tokens.size());
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id) switch (decoding.kind) {
      case Decoding::Kind::bytes: bytes.push_back(byte_level_bytes(vocabulary, id)); break;
      case Decoding::Kind::pieces: bytes.push_back(piece_bytes(vocabulary, id, decoding)); break;
      case Decoding::Kind::words: bytes.push_back(word_bytes(vocabulary, id, decoding, Start::no)); break;
    }
  return bytes;
}

std::vector<std::string> token_bytes_at_start(const Vocabulary& vocabulary, const Decoding& decoding) {
  std::vector<std::string> bytes;
  if (decoding.kind != Decoding::Kind::words && decoding.start == Decoding::Start::keep) return bytes;
  bytes.reserve(vocabulary.tokens.size());
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id)
    bytes.push_back(decoding.kind == Decoding::Kind::words ? word_bytes(vocabulary, id, decoding, Start::yes)
                    : decoding.kind == Decoding::Kind::pieces
                        ? drop_start(piece_bytes(vocabulary, id, decoding), decoding.start)
                        : byte_level_bytes(vocabulary, id));
  return bytes;
}

std::string piece_of(std::string_view text, const Decoding& decoding) {
  std::string piece(text);
  if (decoding.kind == Decoding::Kind::pieces && decoding.space_marks) replace_all(piece, " ", kSpaceMark);
  return piece;
}

}  // namespace neutrino::tokenizer
