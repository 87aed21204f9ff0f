// What a GGUF file says about its tokens, checked for contradictions and handed on as plain data.
#pragma once

#include "tokenizer/tokenizer.h"
#include "weights/gguf_metadata.h"

namespace neutrino::weights {

tokenizer::Vocabulary gguf_vocabulary(const GgufMetadata& metadata);

}  // namespace neutrino::weights
