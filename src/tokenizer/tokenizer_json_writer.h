// A vocabulary as Hugging Face's tokenizer.json.
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

// Throws Error{unimplemented} for a Unigram or WordPiece vocabulary that does not come from a tokenizer.json.
std::string write_tokenizer_json(const Vocabulary& vocabulary);

}  // namespace neutrino::tokenizer
