// Unigram (Kudo 2018): of all ways to write a piece as tokens the one whose scores, logarithms of probabilities, add up to the
// most (Viterbi). A character that no token begins with is unknown, at a score below every token's; unknown characters in a
// row are one unknown token, or, with byte fallback, the tokens of their bytes.
#include <algorithm>
#include <array>
#include <bit>
#include <limits>

#include "base/error.h"
#include "tokenizer/model.h"
#include "tokenizer/text_map.h"
#include "tokenizer/trie.h"
#include "tokenizer/utf8.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

constexpr double kUnknownPenalty = 10;
constexpr size_t kTokenBytesMax = 1024;  // the time per character is the length of the longest token

class UnigramModel final : public Model {
 public:
  UnigramModel(const Vocabulary& vocabulary, const ModelOptions& options);

  void encode(std::string_view piece, std::vector<int32_t>& out) const override;
  int32_t find(std::string_view piece) const override { return words_.find(piece); }

 private:
  // For each end of a way to write the beginning of a piece: the bytes of its last token. 0: there is no way; kUnknown is added
  // where that is one unknown character. Two bytes for each byte of text: a long piece stays in the cache.
  using Lengths = std::vector<uint16_t>;
  static constexpr uint16_t kUnknown = 1 << 15;

  Lengths search(std::string_view piece) const;
  void emit_unknown(std::string_view text, std::vector<int32_t>& out) const;

  std::vector<double> scores_;
  int32_t unknown_;
  double unknown_score_;
  bool byte_fallback_;
  std::array<int32_t, 256> bytes_;
  TextMap words_;
  Trie trie_;
};

UnigramModel::UnigramModel(const Vocabulary& vocabulary, const ModelOptions& options)
    : scores_(vocabulary.scores), unknown_(vocabulary.unknown.value_or(-1)) {
  if (scores_.empty())
    throw make_error(ErrorCode::invalid_argument, "a Unigram vocabulary must have scores")
        .with_reason("token_score");
  bytes_.fill(-1);
  words_.reserve(vocabulary.tokens.size());
  std::vector<std::pair<std::string_view, int32_t>> tokens;
  double lowest = std::numeric_limits<double>::infinity();
  for (int32_t id = 0; id < static_cast<int32_t>(vocabulary.tokens.size()); ++id) {
    const std::string_view text = vocabulary.tokens[static_cast<size_t>(id)];
    const TokenKind kind = token_kind(vocabulary, id);
    if (kind == TokenKind::byte) bytes_[static_cast<uint8_t>(byte_token_bytes(vocabulary, id)[0])] = id;
    if (kind == TokenKind::normal || kind == TokenKind::user_defined) {
      if (text.size() > kTokenBytesMax)
        throw make_error(ErrorCode::invalid_argument, "token {} must have at most {} bytes, got {}", id,
                         kTokenBytesMax, text.size())
            .with_reason("token_length");
      tokens.emplace_back(text, id);
      words_.add(text, id);
    }
    if (kind != TokenKind::unused) lowest = std::min(lowest, scores_[static_cast<size_t>(id)]);
  }
  trie_ = Trie(std::move(tokens));
  unknown_score_ = lowest - kUnknownPenalty;
  byte_fallback_ = options.byte_fallback && std::ranges::find(bytes_, -1) == bytes_.end();
}

// Of equal scores the way that was found first stays. Scores are needed only as far back as a token is long.
UnigramModel::Lengths UnigramModel::search(std::string_view piece) const {
  Lengths lengths(piece.size() + 1);
  std::array<double, std::bit_ceil(kTokenBytesMax + 1)> scores;  // of the best way to each end, in a ring
  scores[0] = 0;
  const auto score_at = [&](size_t end) -> double& { return scores[end % scores.size()]; };
  const auto offer = [&](size_t end, uint16_t length, double score) {
    if (lengths[end] == 0 || score > score_at(end)) lengths[end] = length, score_at(end) = score;
  };
  for (size_t at = 0; at < piece.size();) {
    const double here = score_at(at);
    const size_t one = first_char(piece.substr(at)).length;
    bool known = false;
    trie_.prefixes(piece.substr(at), [&](size_t length, int32_t id) {
      offer(at + length, static_cast<uint16_t>(length), scores_[static_cast<size_t>(id)] + here);
      known = known || length == one;
    });
    if (!known) offer(at + one, static_cast<uint16_t>(one | kUnknown), unknown_score_ + here);
    at += one;
  }
  return lengths;
}

void UnigramModel::encode(std::string_view piece, std::vector<int32_t>& out) const {
  const Lengths lengths = search(piece);
  struct Part {
    size_t begin;
    bool unknown;
  };
  std::vector<Part> parts;  // from the end
  for (size_t end = piece.size(); end > 0;) {
    const bool unknown = lengths[end] & kUnknown;
    end -= lengths[end] & ~kUnknown;
    if (unknown && !parts.empty() && parts.back().unknown)
      parts.back().begin = end;
    else
      parts.push_back({end, unknown});
  }
  for (size_t i = parts.size(); i-- > 0;) {
    const size_t end = i > 0 ? parts[i - 1].begin : piece.size();
    const std::string_view text = piece.substr(parts[i].begin, end - parts[i].begin);
    if (parts[i].unknown)
      emit_unknown(text, out);
    else
      out.push_back(words_.find(text));
  }
}

void UnigramModel::emit_unknown(std::string_view text, std::vector<int32_t>& out) const {
  if (const int32_t id = words_.find(text); id >= 0)
    return out.push_back(id);  // unknown one by one, but not together
  if (byte_fallback_) {
    for (const char byte : text) out.push_back(bytes_[static_cast<uint8_t>(byte)]);
    return;
  }
  if (unknown_ < 0) throw unencodable(text);
  out.push_back(unknown_);
}

}  // namespace

std::unique_ptr<Model> make_unigram_model(const Vocabulary& vocabulary, const ModelOptions& options) {
  return std::make_unique<UnigramModel>(vocabulary, options);
}

}  // namespace neutrino::tokenizer
