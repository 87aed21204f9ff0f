// What grammars need to know of a tokenizer.
#pragma once

#include <cstdint>
#include <span>

#include "text/constraints.h"
#include "tokenizer/tokenizer.h"

namespace neutrino::chat {

// `vocab_size`: ids that may be sampled, at most the tokenizer's. `end_tokens`: of the model; the tokenizer's own end of
// sequence comes first among them. The tokenizer outlives what is made of the result.
text::VocabularyTokens grammar_tokens(const tokenizer::Tokenizer& tokenizer, int64_t vocab_size,
                                      std::span<const int32_t> end_tokens);

}  // namespace neutrino::chat
