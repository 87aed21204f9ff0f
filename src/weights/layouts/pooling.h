// How a checkpoint's hidden states become one vector: what its sentence-transformers modules say.
#pragma once

#include "weights/layouts/layout.h"

namespace neutrino::weights {

inline constexpr int64_t kPoolingRank = 4;  // GGUF's pooling_type of a model with a classification head

// Sets pooling_type from the module Pooling. False: the checkpoint has no such modules. Throws Error{unimplemented} for a way
// of pooling that is not known.
bool set_pooling(Layout& layout);

}  // namespace neutrino::weights
