// WordPiece (BERT): from the beginning of a word the longest token that fits, then the longest that continues it, and so on. A
// word that cannot be written so to its end is unknown as a whole, and so is a word of too many characters.
#include "base/error.h"
#include "tokenizer/model.h"
#include "tokenizer/text_map.h"
#include "tokenizer/trie.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

class WordPieceModel final : public Model {
 public:
  WordPieceModel(const Vocabulary& vocabulary, const ModelOptions& options)
      : unknown_(vocabulary.unknown.value_or(-1)), characters_max_(options.word_characters_max) {
    std::vector<std::pair<std::string_view, int32_t>> first, next;
    words_.reserve(vocabulary.tokens.size());
    for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id) {
      if (token_kind(vocabulary, id) == TokenKind::unused) continue;
      std::string_view text = vocabulary.tokens[static_cast<size_t>(id)];
      const bool plain = token_kind(vocabulary, id) == TokenKind::normal;
      // The mark alone begins no word: it is the character itself, inside one.
      const bool marked = plain && text.starts_with(kWordStart) && text != kWordStart;
      if (marked) text.remove_prefix(kWordStart.size());
      const bool whole = marked || (plain && text.starts_with('[') && text.ends_with(']'));
      if (plain) (whole ? first : next).emplace_back(text, id);
      if (whole) words_.add(text, id);
    }
    first_ = Trie(std::move(first));
    next_ = Trie(std::move(next));
  }

  void encode(std::string_view piece, std::vector<int32_t>& out) const override {
    if (const int32_t id = words_.find(piece); id >= 0 && fits(piece)) return out.push_back(id);
    const size_t before = out.size();
    bool known = fits(piece);
    for (size_t at = 0; known && at < piece.size();) {
      size_t longest = 0;
      int32_t token = -1;
      (at == 0 ? first_ : next_).prefixes(piece.substr(at), [&](size_t length, int32_t id) {
        longest = length, token = id;
      });
      known = token >= 0;
      out.push_back(token);
      at += longest;
    }
    if (known) return;
    if (unknown_ < 0) throw unencodable(piece);
    out.resize(before);
    out.push_back(unknown_);
  }

  int32_t find(std::string_view piece) const override { return words_.find(piece); }

 private:
  static constexpr std::string_view kWordStart = "\u2581";

  bool fits(std::string_view piece) const {
    if (static_cast<int64_t>(piece.size()) <= characters_max_) return true;
    int64_t count = 0;
    for (; !piece.empty() && count <= characters_max_; ++count) piece.remove_prefix(first_char(piece).length);
    return count <= characters_max_;
  }

  int32_t unknown_;
  int64_t characters_max_;
  TextMap words_;      // whole words
  Trie first_, next_;  // what begins a word, what continues one
};

}  // namespace

std::unique_ptr<Model> make_word_piece_model(const Vocabulary& vocabulary, const ModelOptions& options) {
  return std::make_unique<WordPieceModel>(vocabulary, options);
}

}  // namespace neutrino::tokenizer
