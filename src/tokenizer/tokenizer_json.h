// Hugging Face's tokenizer.json (and the small files beside it) as a Vocabulary.
#pragma once

#include <string_view>

#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

// The texts of tokenizer.json, tokenizer_config.json, special_tokens_map.json and generation_config.json; all but the first
// may be empty. Ids that no token has are filled with unused tokens "[PAD7]".
// Throws Error{invalid_argument} for a text that is malformed or contradicts itself, Error{unimplemented} for a kind of
// model, normaliser, pre-tokenizer, post-processor or decoder that is not known (never a guess).
Vocabulary read_tokenizer_json(std::string_view tokenizer_json, std::string_view tokenizer_config = {},
                               std::string_view special_tokens_map = {},
                               std::string_view generation_config = {});

}  // namespace neutrino::tokenizer
