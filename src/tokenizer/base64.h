// Base64 (RFC 4648), as tokenizer.json holds SentencePiece's normalisation rules.
#pragma once

#include <string>
#include <string_view>

namespace neutrino::tokenizer {

// Throws Error{invalid_argument} for a text that is not padded base64.
std::string decode_base64(std::string_view text);

}  // namespace neutrino::tokenizer
