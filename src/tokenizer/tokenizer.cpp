#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/text_tokenizer.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

struct Algorithm {
  std::string_view name;  // as in GGUF's tokenizer.ggml.model
  ModelMaker make;
};

constexpr Algorithm kAlgorithms[] = {
    {"gpt2", make_byte_pair_model}, {"llama", make_byte_pair_model}, {"gemma4", make_byte_pair_model},
    {"t5", make_unigram_model},     {"bert", make_word_piece_model},
};

using Kind = TemplateItem::Kind;

}  // namespace

bool Tokenizer::is_stop(int32_t id) const { return std::ranges::binary_search(stop_tokens_, id); }

std::unique_ptr<Tokenizer> make_tokenizer(Vocabulary vocabulary) {
  check_vocabulary(vocabulary);
  std::string known;
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.name == vocabulary.model) return make_text_tokenizer(std::move(vocabulary), algorithm.make);
    known += (known.empty() ? "" : ", ") + std::string(algorithm.name);
  }
  throw make_error(ErrorCode::unimplemented, "tokenizer model must be one of {}; got \"{:.100}\"", known,
                   vocabulary.model)
      .with_reason("model_type");
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text, Special special) {
  std::vector<int32_t> ids = tokenizer.encode(text, special), front;
  for (const TemplateItem& item : tokenizer.single_template()) {
    if (item.kind != Kind::token) break;
    front.push_back(item.id);
  }
  if (!front.empty() && (ids.empty() || ids[0] != front[0]))
    ids.insert(ids.begin(), front.begin(), front.end());
  return ids;
}

std::vector<int32_t> encode_document(const Tokenizer& tokenizer, std::string_view text, Special special) {
  std::vector<int32_t> ids;
  for (const TemplateItem& item : tokenizer.single_template()) {
    if (item.kind == Kind::token) {
      ids.push_back(item.id);
      continue;
    }
    const std::vector<int32_t> tokens = tokenizer.encode(text, special);
    ids.insert(ids.end(), tokens.begin(), tokens.end());
  }
  return tokenizer.single_template().empty() ? tokenizer.encode(text, special) : ids;
}

TextPair encode_pair(const Tokenizer& tokenizer, std::string_view first, std::string_view second,
                     Special special) {
  if (tokenizer.pair_template().empty())
    throw make_error(ErrorCode::unimplemented, "the model's tokenizer has no form for a pair of texts");
  TextPair pair;
  for (const TemplateItem& item : tokenizer.pair_template()) {
    std::vector<int32_t> tokens{item.id};
    if (item.kind != Kind::token)
      tokens = tokenizer.encode(item.kind == Kind::first ? first : second, special);
    pair.ids.insert(pair.ids.end(), tokens.begin(), tokens.end());
    pair.types.insert(pair.types.end(), tokens.size(), item.type);
  }
  return pair;
}

std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special) {
  std::string text;
  StreamDecoder decoder(tokenizer, skip_special);
  for (const int32_t id : ids) decoder.push(id, text);
  decoder.finish(text);
  return text;
}

}  // namespace neutrino::tokenizer
