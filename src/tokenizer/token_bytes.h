// What tokens mean as text.
#pragma once

#include <string>
#include <vector>

#include "tokenizer/pipeline.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

// The bytes of each token, by id. Throws Error{invalid_argument} for a text that stands for none.
std::vector<std::string> token_bytes(const Vocabulary& vocabulary, const Decoding& decoding);

// The same at the beginning of a text; empty where nothing differs there.
std::vector<std::string> token_bytes_at_start(const Vocabulary& vocabulary, const Decoding& decoding);

// The way back: a text as the model's pieces spell it.
std::string piece_of(std::string_view text, const Decoding& decoding);

}  // namespace neutrino::tokenizer
