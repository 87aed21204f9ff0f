// float32 weights to the types of dtype.h, for files that neutrino writes.
//
// A quantised type stores integers q and a scale per block; which q are nearest follows from the scale, so all the quality lies in
// the choice of scales. For each block a few dozen scales are tried; each gives integers, those give the scale (or line) that fits
// them best by weighted least squares, and the pair with the smallest error wins. In types with integer scales per sub-block
// (q4_k, q5_k, q6_k, iq4_xs) the winners are rounded, their neighbours tried, and the block's own scales fitted again.
// The result depends on the row alone: not on threads, on other rows, or on the CPU.
#pragma once

#include <cstdint>

#include "compute/dtype.h"

namespace neutrino::compute {

// f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1 q4_k q5_k q6_k iq4_nl iq4_xs mxfp4
bool can_quantize_to(DType dtype);

// Writes row_bytes(dtype, columns) bytes to `out`. `columns` must be whole quant blocks of a type that can_quantize_to().
// Returns the first column whose value the type cannot hold (a NaN, an infinity, a magnitude that its scale has no room for),
// or -1: then all of the row is written.
int64_t quantize_weights(DType dtype, const float* row, int64_t columns, void* out);

// The largest magnitude that quantize_weights() takes.
float largest_weight(DType dtype);

}  // namespace neutrino::compute
