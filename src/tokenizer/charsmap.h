// SentencePiece's compiled normalisation rules: a double-array trie from text to replacement.
//
// The bytes: the trie's size (u32, little endian), its units (u32 each), then the replacements, each ended by a zero byte.
// A unit: bits 0-7 the byte it is for (bit 31: it is a value instead), bit 8: a key ends here, bits 10-30 (shifted by 8 more
// where bit 9 is set) how far away its children are (Darts-clone).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace neutrino::tokenizer {

// Throws Error{invalid_argument} for bytes that cannot be such rules. What they lead to is checked at each step.
void check_charsmap(std::string_view charsmap);

// As Hugging Face's tokenizers applies the rules: to each grapheme cluster of less than six bytes, or else to each character.
std::string apply_charsmap(std::string_view charsmap, std::string_view text);

}  // namespace neutrino::tokenizer
