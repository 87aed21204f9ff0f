#include "tokenizer/text_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "base/limits.h"
#include "tokenizer/added_tokens.h"
#include "tokenizer/normalize.h"
#include "tokenizer/pieces.h"
#include "tokenizer/token_bytes.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

class TextTokenizer final : public Tokenizer {
 public:
  TextTokenizer(Vocabulary vocabulary, ModelMaker make_model);

  std::vector<int32_t> encode(std::string_view text, Special special) const override;
  std::string_view bytes(int32_t id) const override { return bytes_[checked(id)]; }
  std::string_view bytes_at_start(int32_t id) const override {
    return starts_.empty() ? bytes(id) : std::string_view(starts_[checked(id)]);
  }
  int32_t size() const override { return static_cast<int32_t>(vocabulary_.tokens.size()); }
  TokenKind kind(int32_t id) const override {
    return token_kind(vocabulary_, static_cast<int32_t>(checked(id)));
  }
  std::optional<int32_t> find(std::string_view text) const override;

 private:
  void set_templates();
  void set_added_tokens();
  void encode_section(std::string_view text, Place place, Special special, std::vector<int32_t>& out) const;
  size_t checked(int32_t id) const;

  const Vocabulary vocabulary_;
  const Pipeline pipeline_;
  const std::unique_ptr<Model> model_;
  AddedTokens added_;                        // looked for in the text as it is
  AddedTokens added_normalized_;             // in the normalised text
  std::vector<std::string> bytes_, starts_;  // by id; starts_ only where it differs
};

TextTokenizer::TextTokenizer(Vocabulary vocabulary, ModelMaker make_model)
    : vocabulary_(std::move(vocabulary)),
      pipeline_(make_pipeline(vocabulary_)),
      model_(make_model(vocabulary_, pipeline_.model)) {
  check_normalizers(pipeline_.normalizers);
  stop_tokens_ = find_stop_tokens(vocabulary_);
  set_templates();
  set_added_tokens();
  bytes_ = token_bytes(vocabulary_, pipeline_.decoding);
  starts_ = token_bytes_at_start(vocabulary_, pipeline_.decoding);
}

// What the vocabulary says of BOS and EOS goes before the pipeline's template.
void TextTokenizer::set_templates() {
  using enum TemplateItem::Kind;
  bos_ = vocabulary_.bos;
  eos_ = vocabulary_.eos;
  std::vector<TemplateItem>& items = single_template_ = pipeline_.single;
  pair_template_ = pipeline_.pair;
  if (items.empty()) items.push_back({.kind = first});
  const auto is = [](const TemplateItem& item, std::optional<int32_t> id) {
    return item.kind == token && item.id == id;
  };
  if (!bos_ && items.front().kind == token) bos_ = items.front().id;
  if (vocabulary_.add_bos && bos_ && *vocabulary_.add_bos != is(items.front(), bos_)) {
    if (*vocabulary_.add_bos)
      items.insert(items.begin(), {.kind = token, .id = *bos_});
    else
      items.erase(items.begin());
  }
  if (vocabulary_.add_eos && eos_ && *vocabulary_.add_eos != is(items.back(), eos_)) {
    if (*vocabulary_.add_eos)
      items.push_back({.kind = token, .id = *eos_});
    else
      items.pop_back();
  }
  add_bos_ = bos_ && is(items.front(), bos_);
  add_eos_ = eos_ && is(items.back(), eos_);
}

void TextTokenizer::set_added_tokens() {
  std::vector<AddedToken> as_is, normalized;
  for (AddedToken token : pipeline_.added_tokens) {
    if (token.normalized) normalize(pipeline_.normalizers, token.text);
    (token.normalized ? normalized : as_is).push_back(std::move(token));
  }
  added_ = AddedTokens(std::move(as_is));
  added_normalized_ = AddedTokens(std::move(normalized));
}

std::vector<int32_t> TextTokenizer::encode(std::string_view text, Special special) const {
  if (text.size() > static_cast<size_t>(limits::kEncodeBytes))
    throw make_error(ErrorCode::invalid_argument, "a text to tokenize must have at most {} bytes, got {}",
                     limits::kEncodeBytes, text.size());
  std::vector<int32_t> out;
  out.reserve(text.size() / 4 + 1);
  const auto plain = [&](size_t begin, size_t end) {
    encode_section(text.substr(begin, end - begin), begin == 0 ? Place::beginning : Place::inside, special,
                   out);
  };
  added_.cut(text, special, plain, [&](int32_t id) { out.push_back(id); });
  return out;
}

// A stretch of text between added tokens.
void TextTokenizer::encode_section(std::string_view text, Place place, Special special,
                                   std::vector<int32_t>& out) const {
  std::string normalized;
  if (!pipeline_.normalizers.empty() && !text.empty()) {
    normalized = text;
    normalize(pipeline_.normalizers, normalized);
    text = normalized;
  }
  const auto encode_piece = [&](std::string_view piece) { model_->encode(piece, out); };
  Pieces pieces(pipeline_.pre_tokenizers, encode_piece);
  const auto plain = [&](size_t begin, size_t end) {
    pieces.cut(text.substr(begin, end - begin), begin == 0 ? place : Place::inside);
  };
  added_normalized_.cut(text, special, plain, [&](int32_t id) { out.push_back(id); });
}

std::optional<int32_t> TextTokenizer::find(std::string_view text) const {
  if (const auto id = added_.find_exact(text)) return id;
  if (const auto id = added_normalized_.find_exact(text)) return id;
  const int32_t id = model_->find(piece_of(text, pipeline_.decoding));
  return id >= 0 ? std::optional(id) : std::nullopt;
}

size_t TextTokenizer::checked(int32_t id) const {
  if (id < 0 || id >= size())
    throw make_error(ErrorCode::invalid_argument, "token id must be 0-{}, got {}", size() - 1, id);
  return static_cast<size_t>(id);
}

}  // namespace

Error unencodable(std::string_view character) {
  std::string bytes;
  for (const char byte : character.substr(0, 8))
    bytes += fmt::format("{}0x{:02X}", bytes.empty() ? "" : " ", static_cast<uint8_t>(byte));
  return make_error(ErrorCode::invalid_argument,
                    "the vocabulary has neither a token for byte {} nor an unknown token", bytes)
      .with_reason("unencodable_text");
}

std::unique_ptr<Tokenizer> make_text_tokenizer(Vocabulary vocabulary, ModelMaker make_model) {
  return std::make_unique<TextTokenizer>(std::move(vocabulary), make_model);
}

}  // namespace neutrino::tokenizer
