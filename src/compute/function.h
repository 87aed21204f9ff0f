// Functions of one value, by name. Plain enum: kernel files include this.
#pragma once

#include <stdint.h>

namespace neutrino::compute {

// swiglu_oai is gpt-oss's and only gates: with g = min(gate, 7) and u = clamp(up, -7, 7) it is
// g sigmoid(1.702 g) (u + 1).
enum class Function : uint8_t { silu, gelu_tanh, gelu_erf, relu_squared, sigmoid, tanh, swiglu_oai };

}  // namespace neutrino::compute
