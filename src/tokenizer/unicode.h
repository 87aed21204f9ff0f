// The three classes of characters that pre-tokenizers tell apart: \p{L}, \p{N} and \s; all else is `other`.
#pragma once

#include <cstdint>

namespace neutrino::tokenizer {

enum class CharClass : uint8_t { other, letter, number, space, end };  // end: no character, the text is over

// Unicode 16.0, as the regex engine inside Hugging Face's tokenizers 0.23 sees it.
CharClass char_class(char32_t code);

}  // namespace neutrino::tokenizer
