// What a vocabulary from a file must satisfy, and what its token texts mean as bytes.
#pragma once

#include <string>

#include "tokenizer/tokenizer.h"

namespace neutrino::tokenizer {

// Throws Error{invalid_argument} that names the token at fault. What only one algorithm can judge (merges) it checks itself.
void check_vocabulary(const Vocabulary& vocabulary);

TokenKind token_kind(const Vocabulary& vocabulary, int32_t id);

// The bytes that a token of a byte-level vocabulary stands for. GPT-2 stores every byte as one printable character
// (the space is "Ġ"); tokens that are not `normal` are stored as they are, byte tokens as "<0xHH>". Throws Error.
std::string byte_level_bytes(const Vocabulary& vocabulary, int32_t id);

// The byte that a byte token "<0x0A>" stands for. Throws Error{invalid_argument} for another text.
std::string byte_token_bytes(const Vocabulary& vocabulary, int32_t id);

// End of generation: eos, eot, and control tokens whose text is known to end a turn; sorted.
std::vector<int32_t> find_stop_tokens(const Vocabulary& vocabulary);

}  // namespace neutrino::tokenizer
