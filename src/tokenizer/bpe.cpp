#include "tokenizer/bpe.h"

#include <array>
#include <unordered_map>

#include "base/error.h"
#include "base/limits.h"
#include "tokenizer/merges.h"
#include "tokenizer/pretokenize.h"
#include "tokenizer/special_tokens.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

using IdByText = std::unordered_map<std::string_view, int32_t>;

class BytePairTokenizer final : public Tokenizer {
 public:
  explicit BytePairTokenizer(const Vocabulary& vocabulary);

  std::vector<int32_t> encode(std::string_view text, Special special) const override;
  std::string_view bytes(int32_t id) const override { return tokens_[checked(id)].bytes; }
  int32_t size() const override { return static_cast<int32_t>(tokens_.size()); }
  TokenKind kind(int32_t id) const override { return tokens_[checked(id)].kind; }
  std::optional<int32_t> find(std::string_view text) const override;

 private:
  struct Token {
    std::string bytes;
    TokenKind kind;
    bool whole;  // merging its bytes gives exactly this token, so a piece that equals it needs no merging
  };

  void index_tokens(const Vocabulary& vocabulary);
  void index_merges(const Vocabulary& vocabulary);
  void encode_plain(std::string_view text, std::vector<int32_t>& out) const;
  void encode_piece(std::string_view piece, std::vector<int32_t>& out) const;
  void merge_piece(std::string_view piece, std::vector<int32_t>& out) const;
  size_t checked(int32_t id) const;

  Splitter next_piece_;
  std::vector<Token> tokens_;  // by id
  std::array<int32_t, 256>
      byte_ids_;    // the token of each byte; the unknown token, or -1, where there is none
  IdByText words_;  // tokens that BPE can make, by their bytes
  SpecialTokens specials_;
  MergeTable merges_;
};

BytePairTokenizer::BytePairTokenizer(const Vocabulary& vocabulary)
    : next_piece_(find_splitter(vocabulary.pre)) {
  bos_ = vocabulary.bos;
  eos_ = vocabulary.eos;
  add_bos_ = vocabulary.add_bos.value_or(false) && bos_;
  add_eos_ = vocabulary.add_eos.value_or(false) && eos_;
  stop_tokens_ = find_stop_tokens(vocabulary);
  index_tokens(vocabulary);
  index_merges(vocabulary);
  std::vector<int32_t> ids;
  for (const auto& [word, id] : words_) {
    ids.clear();
    bool spelled = true;
    for (const char byte : word) spelled = spelled && byte_ids_[static_cast<uint8_t>(byte)] >= 0;
    if (spelled) merge_piece(word, ids);
    tokens_[id].whole = ids.size() == 1 && ids[0] == id;
  }
}

void BytePairTokenizer::index_tokens(const Vocabulary& vocabulary) {
  const int32_t count = static_cast<int32_t>(vocabulary.tokens.size());
  tokens_.reserve(vocabulary.tokens.size());
  for (int32_t id = 0; id < count; ++id)
    tokens_.push_back({byte_level_bytes(vocabulary, id), token_kind(vocabulary, id), false});
  words_.reserve(vocabulary.tokens.size());
  std::vector<std::pair<std::string_view, int32_t>> specials;
  for (int32_t id = 0; id < count; ++id) {
    const Token& token = tokens_[id];
    if (token.kind == TokenKind::normal)
      words_.emplace(token.bytes, id);
    else if (is_special(id) || token.kind == TokenKind::user_defined)
      specials.emplace_back(token.bytes, id);
  }
  for (int32_t id = 0; id < count; ++id)  // a byte that has a normal token too goes by that one
    if (tokens_[id].kind == TokenKind::byte) words_.emplace(tokens_[id].bytes, id);
  specials_ = SpecialTokens(std::move(specials));
  for (int byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    const auto word = words_.find(std::string_view(&text, 1));
    byte_ids_[byte] = word != words_.end() ? word->second : vocabulary.unknown.value_or(-1);
  }
}

void BytePairTokenizer::index_merges(const Vocabulary& vocabulary) {
  IdByText ids;  // by text as stored; without special tokens, so that no plain text can be merged into one
  ids.reserve(vocabulary.tokens.size());
  for (int32_t id = 0; id < size(); ++id)
    if (!is_special(id)) ids.emplace(vocabulary.tokens[id], id);
  merges_.reserve(vocabulary.merges.size());
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string& merge = vocabulary.merges[rank];
    const auto fail = [&](std::string_view why) {
      return make_error(ErrorCode::invalid_argument, "merge {} (\"{:.100}\") {}", rank, merge, why);
    };
    const size_t space = merge.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos)
      throw fail("must be two tokens with one space between them");
    const std::string_view left = std::string_view(merge).substr(0, space),
                           right = std::string_view(merge).substr(space + 1);
    const auto a = ids.find(left), b = ids.find(right), both = ids.find(std::string(left) += right);
    if (a == ids.end() || b == ids.end()) throw fail("names a token that is not in the vocabulary");
    if (both == ids.end()) throw fail("makes a token that is not in the vocabulary");
    if (!merges_.add(a->second, b->second, both->second)) throw fail("stands in the list twice");
  }
}

std::vector<int32_t> BytePairTokenizer::encode(std::string_view text, Special special) const {
  if (text.size() > static_cast<size_t>(limits::kEncodeBytes))
    throw make_error(ErrorCode::invalid_argument, "a text to tokenize must have at most {} bytes, got {}",
                     limits::kEncodeBytes, text.size());
  std::vector<int32_t> out;
  out.reserve(text.size() / 4 + 1);
  if (special == Special::parse) {
    while (const auto match = specials_.find_first(text)) {
      encode_plain(text.substr(0, match->at), out);
      out.push_back(match->id);
      text.remove_prefix(match->at + match->length);
    }
  }
  encode_plain(text, out);
  return out;
}

void BytePairTokenizer::encode_plain(std::string_view text, std::vector<int32_t>& out) const {
  while (!text.empty()) {
    const size_t length = next_piece_(text);
    encode_piece(text.substr(0, length), out);
    text.remove_prefix(length);
  }
}

void BytePairTokenizer::encode_piece(std::string_view piece, std::vector<int32_t>& out) const {
  const auto word = words_.find(piece);
  if (word != words_.end() && tokens_[word->second].whole)
    out.push_back(word->second);
  else
    merge_piece(piece, out);
}

void BytePairTokenizer::merge_piece(std::string_view piece, std::vector<int32_t>& out) const {
  const size_t before = out.size();
  for (const char byte : piece) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
    if (id < 0)
      throw make_error(ErrorCode::invalid_argument,
                       "the vocabulary has neither a token for byte 0x{:02X} nor an unknown token",
                       static_cast<uint8_t>(byte))
          .with_reason("unencodable_text");
    out.push_back(id);
  }
  out.resize(before + merge_symbols(merges_, std::span(out).subspan(before)));
}

std::optional<int32_t> BytePairTokenizer::find(std::string_view text) const {
  if (const auto id = specials_.find(text)) return id;
  const auto word = words_.find(text);
  return word == words_.end() ? std::nullopt : std::optional(word->second);
}

size_t BytePairTokenizer::checked(int32_t id) const {
  if (id < 0 || id >= size())
    throw make_error(ErrorCode::invalid_argument, "token id must be 0-{}, got {}", size() - 1, id);
  return static_cast<size_t>(id);
}

}  // namespace

std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(const Vocabulary& vocabulary) {
  return std::make_unique<BytePairTokenizer>(vocabulary);
}

}  // namespace neutrino::tokenizer
