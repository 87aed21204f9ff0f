// The scalar definitions of what every kernel table computes: the reference backend is written in them.
#pragma once

#include <cstdint>

#include "compute/constants.h"

namespace neutrino::compute {

// Sets flush-to-zero and denormals-are-zero on this thread: part of the arithmetic (matrix units have no denormals), and a
// denormal would cost a hundred cycles.
void set_float_mode();

float exponential(float x);                // exp(x), x clamped to [kExpMin, kExpMax]; NaN stays NaN
float silu_product(float gate, float up);  // gate / (1 + exp(-gate)) * up

float sum_lanes(const float lanes[kLanes]);  // the tree; leaves `lanes` alone

// float32 arithmetic: sum of w*x, each rounded twice.
float dot_float(const float* w, const float* x, int64_t n);

// out = x / sqrt(mean(x^2) + eps) * weight
void rms_norm_row(const float* x, const float* weight, float eps, int64_t n, float* out);

// out[i] in [-16256, 16256] and the row's scale: x[i] is about out[i] * scale. The scale of a row that holds an infinity or a
// NaN is NaN.
float quantize_row(const float* x, int64_t n, int16_t* out);

}  // namespace neutrino::compute
