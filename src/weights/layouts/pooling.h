// How a checkpoint's hidden states become one vector: what its sentence-transformers modules say.
#pragma once

#include "weights/layouts/layout.h"

namespace neutrino::weights {

// Sets pooling_type from the module Pooling. False: the checkpoint has no such modules. Throws Error{unimplemented} for a way
// of pooling that is not known.
bool set_pooling(Layout& layout);

}  // namespace neutrino::weights
