// Byte-level byte-pair encoding (GPT-2 and most models since): text is bytes, pieces are merged bytes, nothing is unknown.
#pragma once

#include <memory>

#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

// For a vocabulary that check_vocabulary() let pass. Throws Error.
std::unique_ptr<Tokenizer> make_byte_pair_tokenizer(const Vocabulary& vocabulary);

}  // namespace neutrino::tokenizer
