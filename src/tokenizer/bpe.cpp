// Byte-pair encoding: over bytes (GPT-2 and most models since; nothing is unknown) or over characters (SentencePiece; what has
// no token falls back to its bytes).
//
// A text is first written as symbols, the tokens of its bytes or characters, and neighbours are merged. Between two symbols
// that stand side by side in no merge a merge can never cross: there the symbols are cut into segments, so that a long text
// without spaces costs no more than words do.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "tokenizer/merges.h"
#include "tokenizer/model.h"
#include "tokenizer/text_map.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

// How a vocabulary writes text as symbols.
class Symbols {
 public:
  Symbols(const Vocabulary& vocabulary, const std::vector<std::string>& texts, const ModelOptions& options)
      : byte_level_(vocabulary.model == "gpt2"),
        fuse_unknown_(options.fuse_unknown),
        unknown_(vocabulary.unknown.value_or(-1)) {
    bytes_.fill(-1);
    ids_.reserve(texts.size());
    for (int32_t id = 0; id < static_cast<int32_t>(texts.size()); ++id)
      add(vocabulary, texts[static_cast<size_t>(id)], id);
    for (int32_t id = 0; id < static_cast<int32_t>(texts.size());
         ++id)  // a byte that has a normal token goes by that one
      if (const auto& text = texts[static_cast<size_t>(id)];
          byte_level_ && token_kind(vocabulary, id) == TokenKind::byte && bytes_[byte_of(text)] < 0)
        bytes_[byte_of(text)] = id;
    if (!byte_level_ && !options.byte_fallback) bytes_.fill(-1);
  }

  bool byte_level() const { return byte_level_; }

  // Length of the byte or character at the front; appends its symbols.
  size_t take(std::string_view text, std::vector<int32_t>& out) const {
    const size_t length = byte_level_ ? 1 : first_char(text).length;
    const std::string_view one = text.substr(0, length);
    const int32_t whole = byte_level_                          ? bytes_[byte_of(one)]
                          : static_cast<uint8_t>(one[0]) < 128 ? ascii_[byte_of(one)]
                                                               : ids_.find(one);
    if (whole >= 0)
      out.push_back(whole);
    else
      take_unknown(one, out);
    return length;
  }

  int32_t unknown() const { return unknown_; }

 private:
  static uint8_t byte_of(std::string_view text) { return static_cast<uint8_t>(text[0]); }

  void add(const Vocabulary& vocabulary, const std::string& text, int32_t id) {
    const TokenKind kind = token_kind(vocabulary, id);
    if (kind == TokenKind::byte) {
      if (!byte_level_) bytes_[byte_of(text)] = id;
      return;
    }
    if (text.empty() || kind == TokenKind::control || kind == TokenKind::unknown || kind == TokenKind::unused)
      return;
    if (byte_level_) {
      if (text.size() == 1 && kind == TokenKind::normal) bytes_[byte_of(text)] = id;
      return;
    }
    if (first_char(text).length != text.size()) return;
    ids_.add(text, id);
    if (text.size() == 1 && byte_of(text) < 128) ascii_[byte_of(text)] = id;
  }

  void take_unknown(std::string_view one, std::vector<int32_t>& out) const {
    const size_t before = out.size();
    for (const char byte : one) {
      if (bytes_[static_cast<uint8_t>(byte)] < 0) break;
      out.push_back(bytes_[static_cast<uint8_t>(byte)]);
    }
    if (out.size() == before + one.size()) return;
    out.resize(before);
    if (unknown_ < 0) throw unencodable(one);
    if (!fuse_unknown_ || out.empty() || out.back() != unknown_) out.push_back(unknown_);
  }

  const bool byte_level_, fuse_unknown_;
  const int32_t unknown_;
  std::array<int32_t, 256> bytes_;  // the token of each byte, or -1
  std::array<int32_t, 128> ascii_ = [] {
    std::array<int32_t, 128> none;
    none.fill(-1);
    return none;
  }();
  TextMap ids_;  // tokens of one character
};

class BytePairModel final : public Model {
 public:
  BytePairModel(const Vocabulary& vocabulary, const ModelOptions& options);

  void encode(std::string_view piece, std::vector<int32_t>& out) const override;
  int32_t find(std::string_view piece) const override { return words_.find(piece); }

 private:
  static std::vector<std::string> texts_of(const Vocabulary& vocabulary);
  void index_words(const Vocabulary& vocabulary);
  void index_merges(const Vocabulary& vocabulary);
  void index_scores(const Vocabulary& vocabulary);
  void index_crossings(const std::vector<std::pair<int32_t, int32_t>>& pairs);
  void find_whole_words(bool ignore_merges);
  void encode_characters(std::string_view piece, std::vector<int32_t>& out) const;
  void merge_from(size_t begin, std::vector<int32_t>& out) const;
  bool crosses(int32_t left, int32_t right) const {
    return crossings_.find(left, right).rank != MergeTable::kNone;
  }

  const std::vector<std::string> texts_;  // by id: what pieces hold
  const Symbols symbols_;
  TextMap words_;            // tokens that pieces can become
  std::vector<bool> whole_;  // by id: a piece that equals it is it, without merging
  MergeTable merges_;
  MergeTable crossings_;  // (last symbol, first symbol) that some merge joins; rank 0
};

BytePairModel::BytePairModel(const Vocabulary& vocabulary, const ModelOptions& options)
    : texts_(texts_of(vocabulary)), symbols_(vocabulary, texts_, options) {
  index_words(vocabulary);
  if (vocabulary.merges.empty() && !vocabulary.scores.empty())
    index_scores(vocabulary);
  else
    index_merges(vocabulary);
  find_whole_words(options.ignore_merges);
}

std::vector<std::string> BytePairModel::texts_of(const Vocabulary& vocabulary) {
  std::vector<std::string> texts;
  texts.reserve(vocabulary.tokens.size());
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id)
    texts.push_back(vocabulary.model == "gpt2" ? byte_level_bytes(vocabulary, id)
                    : token_kind(vocabulary, id) == TokenKind::byte
                        ? byte_token_bytes(vocabulary, id)
                        : vocabulary.tokens[static_cast<size_t>(id)]);
  return texts;
}

// Splitting a token in all ways costs its length squared.
constexpr size_t kMergedBytesMax = 1024;

Error too_long(int32_t id, size_t bytes) {
  return make_error(ErrorCode::invalid_argument,
                    "token {} must have at most {} bytes to be merged by its score, got {}", id,
                    kMergedBytesMax, bytes)
      .with_reason("token_length");
}

bool is_plain(TokenKind kind) { return kind == TokenKind::normal || kind == TokenKind::user_defined; }

void BytePairModel::index_words(const Vocabulary& vocabulary) {
  words_.reserve(texts_.size());
  const auto add_all = [&](TokenKind kind) {
    for (int32_t id = 0; id < static_cast<int32_t>(texts_.size()); ++id)
      if (token_kind(vocabulary, id) == kind && !texts_[static_cast<size_t>(id)].empty())
        words_.add(texts_[static_cast<size_t>(id)], id);
  };
  add_all(TokenKind::normal);
  if (!symbols_.byte_level()) add_all(TokenKind::user_defined);
  if (symbols_.byte_level()) add_all(TokenKind::byte);  // a byte that has a normal token too goes by that one
}

// Merges by name. One that names a special token is left out: no plain text can be merged into or from one.
void BytePairModel::index_merges(const Vocabulary& vocabulary) {
  TextMap ids;  // by text as stored
  ids.reserve(vocabulary.tokens.size());
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id)
    ids.add(vocabulary.tokens[static_cast<size_t>(id)], id);
  merges_.reserve(vocabulary.merges.size());
  std::vector<std::pair<int32_t, int32_t>> pairs;
  for (size_t rank = 0; rank < vocabulary.merges.size(); ++rank) {
    const std::string& merge = vocabulary.merges[rank];
    const auto fail = [&](std::string_view why) {
      return make_error(ErrorCode::invalid_argument, "merge {} (\"{:.100}\") {}", rank, merge, why)
          .with_reason("merge");
    };
    const size_t space = merge.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string::npos)
      throw fail("must be two tokens with one space between them");
    const std::string_view left = std::string_view(merge).substr(0, space),
                           right = std::string_view(merge).substr(space + 1);
    const int32_t a = ids.find(left), b = ids.find(right), both = ids.find(std::string(left) += right);
    if (a < 0 || b < 0) throw fail("names a token that is not in the vocabulary");
    if (both < 0) throw fail("makes a token that is not in the vocabulary");
    bool plain = true;
    for (const int32_t id : {a, b, both}) {
      const TokenKind kind = token_kind(vocabulary, id);
      plain = plain && kind != TokenKind::control && kind != TokenKind::unknown;
    }
    if (!plain) continue;
    if (!merges_.add(a, b, static_cast<int32_t>(rank), both)) throw fail("stands in the list twice");
    pairs.emplace_back(a, b);
  }
  index_crossings(pairs);
}

// SentencePiece lists no merges: any two neighbours merge that together are a token, the token of the best score first.
void BytePairModel::index_scores(const Vocabulary& vocabulary) {
  std::vector<int32_t> order;
  for (int32_t id = 0; id < static_cast<int32_t>(texts_.size()); ++id)
    if (is_plain(token_kind(vocabulary, id))) order.push_back(id);
  const auto score = [&](int32_t id) { return vocabulary.scores[static_cast<size_t>(id)]; };
  std::ranges::stable_sort(order, [&](int32_t a, int32_t b) { return score(a) > score(b); });
  struct Pair {
    int32_t left, right, rank, result;
  };
  std::vector<Pair> pairs;
  int32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    const std::string_view text = texts_[static_cast<size_t>(order[i])];
    if (text.empty()) continue;
    if (text.size() > kMergedBytesMax) throw too_long(order[i], text.size());
    for (size_t at = first_char(text).length; at < text.size(); at += first_char(text.substr(at)).length) {
      const int32_t left = words_.find(text.substr(0, at));
      const int32_t right = left < 0 ? -1 : words_.find(text.substr(at));
      if (right >= 0) pairs.push_back({left, right, rank, order[i]});
    }
  }
  merges_.reserve(pairs.size());
  std::vector<std::pair<int32_t, int32_t>> joined;
  for (const Pair& pair : pairs) {
    merges_.add(pair.left, pair.right, pair.rank, pair.result);
    joined.emplace_back(pair.left, pair.right);
  }
  index_crossings(joined);
}

void BytePairModel::index_crossings(const std::vector<std::pair<int32_t, int32_t>>& pairs) {
  crossings_.reserve(pairs.size());
  std::vector<std::pair<int32_t, int32_t>> ends(texts_.size(), {-1, -1});  // first and last symbol by id
  std::vector<int32_t> symbols;
  const auto ends_of = [&](int32_t id) {
    auto& [first, last] = ends[static_cast<size_t>(id)];
    if (first >= 0) return ends[static_cast<size_t>(id)];
    symbols.clear();
    try {
      for (std::string_view text = texts_[static_cast<size_t>(id)]; !text.empty();)
        text.remove_prefix(symbols_.take(text, symbols));
    } catch (const Error&) {  // it holds a character without a token: nothing leads to it
      symbols.clear();
    }
    if (symbols.empty()) symbols.push_back(id);
    first = symbols.front(), last = symbols.back();
    return ends[static_cast<size_t>(id)];
  };
  for (const auto& [left, right] : pairs) {
    const int32_t last = ends_of(left).second, first = ends_of(right).first;
    crossings_.add(last, first, 0, 0);
  }
}

void BytePairModel::find_whole_words(bool ignore_merges) {
  whole_.assign(texts_.size(), false);
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < static_cast<int32_t>(texts_.size()); ++id) {
    const std::string_view word = texts_[static_cast<size_t>(id)];
    if (word.empty() || words_.find(word) != id) continue;
    ids.clear();
    try {
      for (std::string_view rest = word; !ignore_merges && !rest.empty();)
        rest.remove_prefix(symbols_.take(rest, ids));
    } catch (const Error&) {
      continue;
    }
    if (!ignore_merges) merge_from(0, ids);
    whole_[static_cast<size_t>(id)] = ignore_merges || (ids.size() == 1 && ids[0] == id);
  }
}

void BytePairModel::encode(std::string_view piece, std::vector<int32_t>& out) const {
  const int32_t word = words_.find(piece);
  if (word >= 0 && whole_[static_cast<size_t>(word)]) return out.push_back(word);
  if (!symbols_.byte_level()) return encode_characters(piece, out);
  const size_t begin = out.size();
  for (std::string_view rest = piece; !rest.empty();) rest.remove_prefix(symbols_.take(rest, out));
  merge_from(begin, out);
}

// A long piece, as SentencePiece's are: where no merge can cross, what came before is a segment, and often a whole token.
void BytePairModel::encode_characters(std::string_view piece, std::vector<int32_t>& out) const {
  std::vector<int32_t> segment, fresh;
  size_t begin = 0;  // of the segment's text
  const auto finish = [&](size_t end, size_t count) {
    const int32_t word = words_.find(piece.substr(begin, end - begin));
    if (word >= 0 && whole_[static_cast<size_t>(word)]) {
      out.push_back(word);
    } else {
      count = merge_symbols(merges_, std::span(segment).first(count));
      out.insert(out.end(), segment.begin(), segment.begin() + static_cast<ptrdiff_t>(count));
    }
    begin = end;
  };
  for (size_t at = 0; at < piece.size();) {
    const size_t count = segment.size();
    const size_t length = symbols_.take(piece.substr(at), segment);
    if (count > 0 && segment.size() > count && !crosses(segment[count - 1], segment[count])) {
      fresh.assign(segment.begin() + static_cast<ptrdiff_t>(count), segment.end());
      finish(at, count);
      segment.assign(fresh.begin(), fresh.end());
    }
    at += length;
  }
  if (!segment.empty()) finish(piece.size(), segment.size());
}

// Merges the symbols of `out` behind `begin`.
void BytePairModel::merge_from(size_t begin, std::vector<int32_t>& out) const {
  constexpr size_t kWorthCutting = 48;
  const std::span symbols = std::span(out).subspan(begin);
  if (symbols.size() <= kWorthCutting) return out.resize(begin + merge_symbols(merges_, symbols));
  size_t kept = 0, from = 0;
  for (size_t i = 1; i <= symbols.size(); ++i) {
    if (i < symbols.size() && crosses(symbols[i - 1], symbols[i])) continue;
    const size_t left = merge_symbols(merges_, symbols.subspan(from, i - from));
    std::copy_n(symbols.begin() + static_cast<ptrdiff_t>(from), left,
                symbols.begin() + static_cast<ptrdiff_t>(kept));
    kept += left;
    from = i;
  }
  out.resize(begin + kept);
}

}  // namespace

std::unique_ptr<Model> make_byte_pair_model(const Vocabulary& vocabulary, const ModelOptions& options) {
  return std::make_unique<BytePairModel>(vocabulary, options);
}

}  // namespace neutrino::tokenizer
