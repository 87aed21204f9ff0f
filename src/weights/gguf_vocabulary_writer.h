// A vocabulary as the keys of a GGUF file: the way back from gguf_vocabulary().
#pragma once

#include "tokenizer/tokenizer.h"
#include "weights/gguf_writer.h"

namespace neutrino::weights {

void set_gguf_vocabulary(GgufKeyValues& key_values, const tokenizer::Vocabulary& vocabulary);

}  // namespace neutrino::weights
