#include "tokenizer/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "tokenizer/bpe.h"
#include "tokenizer/stream_decoder.h"
#include "tokenizer/vocabulary.h"

namespace neutrino::tokenizer {
namespace {

struct Algorithm {
  std::string_view name;  // as in GGUF's tokenizer.ggml.model
  std::unique_ptr<Tokenizer> (*make)(const Vocabulary&);
};

constexpr Algorithm kAlgorithms[] = {
    {"gpt2", make_byte_pair_tokenizer},
};

}  // namespace

bool Tokenizer::is_stop(int32_t id) const { return std::ranges::binary_search(stop_tokens_, id); }

std::unique_ptr<Tokenizer> make_tokenizer(Vocabulary vocabulary) {
  check_vocabulary(vocabulary);
  std::string known;
  for (const Algorithm& algorithm : kAlgorithms) {
    if (algorithm.name == vocabulary.model) return algorithm.make(vocabulary);
    known += (known.empty() ? "" : ", ") + std::string(algorithm.name);
  }
  throw make_error(ErrorCode::unimplemented, "tokenizer model must be one of {}; got \"{:.100}\"", known,
                   vocabulary.model);
}

std::vector<int32_t> encode_prompt(const Tokenizer& tokenizer, std::string_view text, Special special) {
  std::vector<int32_t> ids = tokenizer.encode(text, special);
  if (tokenizer.add_bos() && (ids.empty() || ids[0] != *tokenizer.bos()))
    ids.insert(ids.begin(), *tokenizer.bos());
  return ids;
}

std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool skip_special) {
  std::string text;
  StreamDecoder decoder(tokenizer, skip_special);
  for (const int32_t id : ids) decoder.push(id, text);
  decoder.finish(text);
  return text;
}

}  // namespace neutrino::tokenizer
