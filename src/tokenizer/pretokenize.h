// Pre-tokenizers: how a text is cut into pieces before BPE merges inside each of them.
//
// Model files name one; the original definitions are regular expressions. Each is written here as a scanner that gives what
// the expression gives, in linear time whatever the text.
#pragma once

#include <cstddef>
#include <string_view>

namespace neutrino::tokenizer {

// Length of the first piece of a text that is not empty.
using Splitter = size_t (*)(std::string_view text);

// Throws Error{unimplemented} for a name that is not in the table: a guess would give wrong tokens without a sign.
Splitter find_splitter(std::string_view name);

}  // namespace neutrino::tokenizer
