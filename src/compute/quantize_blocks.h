// One quant block from float32, per type; quantize_weights() in quantize.h is the front door. The layouts are those of dequantize.h.
#pragma once

#include <cstdint>

namespace neutrino::compute {

void quantize_q4_k(const float* x, uint8_t* block);
void quantize_q5_k(const float* x, uint8_t* block);
void quantize_q6_k(const float* x, uint8_t* block);
void quantize_iq4_xs(const float* x, uint8_t* block);

}  // namespace neutrino::compute
