// Unigram (Kudo 2018): of all ways to write a piece as tokens the one whose scores, logarithms of probabilities, add up to the
// most (Viterbi). A character that no token begins with is unknown, at a score below every token's; unknown characters in a
// row are one unknown token, or, with byte fallback, the tokens of their bytes.
#include <algorithm>
#include <array>
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
  struct Step {
    double score;  // of the best path to here
    int32_t id;    // of its last token; -1: unknown
    uint32_t length;
  };

  void search(std::string_view piece, std::vector<Step>& best) const;
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
  if (scores_.empty()) throw make_error(ErrorCode::invalid_argument, "a Unigram vocabulary must have scores");
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
                         kTokenBytesMax, text.size());
      tokens.emplace_back(text, id);
      words_.add(text, id);
    }
    if (kind != TokenKind::unused) lowest = std::min(lowest, scores_[static_cast<size_t>(id)]);
  }
  trie_ = Trie(std::move(tokens));
  unknown_score_ = lowest - kUnknownPenalty;
  byte_fallback_ = options.byte_fallback && std::ranges::find(bytes_, -1) == bytes_.end();
}

// best[i]: how the first i bytes are written best; of equal scores the path that was found first stays.
void UnigramModel::search(std::string_view piece, std::vector<Step>& best) const {
  best.assign(piece.size() + 1, {0, -1, 0});
  const auto offer = [&](size_t begin, size_t length, int32_t id, double score) {
    Step& step = best[begin + length];
    if (step.length == 0 || score > step.score) step = {score, id, static_cast<uint32_t>(length)};
  };
  for (size_t at = 0; at < piece.size();) {
    const double here = best[at].score;
    const size_t one = first_char(piece.substr(at)).length;
    bool known = false;
    trie_.prefixes(piece.substr(at), [&](size_t length, int32_t id) {
      offer(at, length, id, scores_[static_cast<size_t>(id)] + here);
      known = known || length == one;
    });
    if (!known) offer(at, one, -1, unknown_score_ + here);
    at += one;
  }
}

void UnigramModel::encode(std::string_view piece, std::vector<int32_t>& out) const {
  std::vector<Step> best;
  search(piece, best);
  std::vector<std::pair<size_t, int32_t>> path;  // where a token begins, and its id; from the end
  for (size_t end = piece.size(); end > 0; end -= best[end].length) {
    if (best[end].id < 0 && !path.empty() && path.back().second < 0)
      path.back().first = end - best[end].length;
    else
      path.emplace_back(end - best[end].length, best[end].id);
  }
  std::ranges::reverse(path);
  for (size_t i = 0; i < path.size(); ++i) {
    const auto [begin, id] = path[i];
    const size_t end = i + 1 < path.size() ? path[i + 1].first : piece.size();
    if (id >= 0)
      out.push_back(id);
    else
      emit_unknown(piece.substr(begin, end - begin), out);
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
