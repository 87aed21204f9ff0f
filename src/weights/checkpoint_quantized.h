// Tensors that a checkpoint stores quantised: found by the parts that each scheme stores, and made into sources of plain names
// and shapes.
//
// Values come out as the scheme's own library makes them: in the type of its scales (a product rounded once to float16 where
// they are float16), exactly where a GGUF type holds them (MXFP4, NVFP4).
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "weights/checkpoint_source.h"

namespace neutrino::weights {

using Parts = std::map<std::string, const StTensor*, std::less<>>;

// Takes from `parts` what belongs to quantised tensors, and what such checkpoints keep beside them for activations and caches.
// Throws Error where a part is missing, or does not fit the others or config.json's quantization_config.
Sources take_quantized(Parts& parts, const json::object& config);

}  // namespace neutrino::weights
