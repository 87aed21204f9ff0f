// The scalar definitions of what every kernel table computes: the reference backend is written in them.
#pragma once

#include <cstdint>

#include "compute/constants.h"
#include "compute/function.h"
#include "compute/state_task.h"

namespace neutrino::compute {

// Sets flush-to-zero and denormals-are-zero on this thread: part of the arithmetic (matrix units have no denormals), and a
// denormal would cost a hundred cycles.
void set_float_mode();

float exponential(float x);                // exp(x), x clamped to [kExpMin, kExpMax]; NaN stays NaN
float silu_product(float gate, float up);  // gate / (1 + exp(-gate)) * up

// Within 4 units of the exact value's last place unless said otherwise; NaN stays NaN.
float sigmoid(float x);  // 1 / (1 + exp(-x))
float hyperbolic_tangent(float x);
float gelu_tanh(float x);  // within 4 units of |x|'s last place
float gelu_erf(float x);   // x Phi(x), within 6 units where x < 0; below -13 the tail stops falling
float softplus(float x);   // log(1 + exp(x))
float softcap_value(float x, float cap);                      // cap tanh(x / cap)
float apply_function(Function function, float x);             // not swiglu_oai
float gate_product(Function function, float gate, float up);  // function(gate) * up, or swiglu_oai

float sum_lanes(const float lanes[kLanes]);  // the tree; leaves `lanes` alone

// float32 arithmetic: sum of w*x, each rounded twice.
float dot_float(const float* w, const float* x, int64_t n);

// out = x / sqrt(mean(x^2) + eps) * weight
void rms_norm_row(const float* x, const float* weight, float eps, int64_t n, float* out);

// out = (x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias; bias may be null.
void layer_norm_row(const float* x, const float* weight, const float* bias, float eps, int64_t n, float* out);

// Recurrent states S, one token: sums run over the rows in their order.
// S *= decay;  y[p] = sum over i of S[i][p] k[i]
void decay_state(const StateTask& task, float decay, const float* k, float* y);
// S[i][p] += k[i] u[p];  y[p] = sum over i of S[i][p] q[i]
void update_state(const StateTask& task, const float* k, const float* u, const float* q, float* y);
void scan_state(const StateTask& task, const ScanInput& input, float* y);

// out[i] in [-16256, 16256] and the row's scale: x[i] is about out[i] * scale. The scale of a row that holds an infinity or a
// NaN is NaN.
float quantize_row(const float* x, int64_t n, int16_t* out);

}  // namespace neutrino::compute
