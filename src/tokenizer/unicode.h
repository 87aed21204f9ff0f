// What tokenizers must know of a character: the classes that pre-tokenizers' regular expressions and normalisers tell apart.
#pragma once

#include <cstdint>
#include <string_view>

namespace neutrino::tokenizer {

// One bit each, as Hugging Face's tokenizers 0.23 sees the character (its parts were built with different Unicode versions).
enum CharTrait : uint32_t {
  kUpper = 1 << 0,             // \p{Lu}
  kTitle = 1 << 1,             // \p{Lt}
  kLower = 1 << 2,             // \p{Ll}
  kModifier = 1 << 3,          // \p{Lm}
  kOtherLetter = 1 << 4,       // \p{Lo}
  kMark = 1 << 5,              // \p{M}
  kNumber = 1 << 6,            // \p{N}
  kSpace = 1 << 7,             // \s
  kPunctuation = 1 << 8,       // \p{P}
  kSymbol = 1 << 9,            // \p{S}
  kHan = 1 << 10,              // \p{Han}
  kWord = 1 << 11,             // \w
  kDigit = 1 << 12,            // of the Digits pre-tokenizer
  kBertPunctuation = 1 << 13,  // of the BERT and Punctuation pre-tokenizers
  kBertRemoved = 1 << 14,      // control characters that BERT's normaliser drops
  kBertSpace = 1 << 15,        // what it takes for a space
  kBertMark = 1 << 16,         // accents that it drops
  kAccent = 1 << 17,           // what the StripAccents normaliser drops
  kWhiteSpace = 1 << 18,       // of the WhitespaceSplit and BERT pre-tokenizers
  kGraphemeExtend = 1 << 19,   // belongs to the character before it
  kGraphemePrepend = 1 << 20,  // belongs to the character behind it
  kJoinedWord = 1 << 22,  // \w of the Whitespace pre-tokenizer and of added tokens: joiners are of words, too
  kGraphemeControl = 1 << 21,                                     // belongs to none
  kLetter = kUpper | kTitle | kLower | kModifier | kOtherLetter,  // \p{L}
};

uint32_t char_traits(char32_t code);

}  // namespace neutrino::tokenizer
