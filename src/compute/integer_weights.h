// Weights as integers: w is about W * scale with one float32 scale a row, so that a dot product with integer activations is
// an exact integer sum, and its order does not exist.
//
//   nibble (q4_0, q4_1, q4_k) W = e (q - 8) + f, one int16 pair e, f per 32 columns, q the file's nibble
//   byte   (q8_0)             W = e q, e an integer of up to 18 bits per 32 columns, q the file's byte
//   word   (all others)       W an int16
//
// The scale is the row's largest magnitude over 16383, 2^17 (of the blocks' d) or 32767, doubled until the kernels' sums fit:
// for nibbles 127 * sum|W| < 2^31 (they sum the high and the low part of an activation in int32), for words
// 16256 * sum|W| < 2^31 in each run of 128 columns (which they sum in int32), for bytes 16256 * sum|W| < 2^53 (they sum
// blocks in float64). Words so keep about 12 bits of an even row and 13 of a normal one.
#pragma once

#include <cstdint>
#include <vector>

#include "compute/dtype.h"

namespace neutrino::compute {

enum class WeightKind : uint8_t { nibble, byte, word };

WeightKind weight_kind(DType dtype);

struct IntegerRow {
  float scale = 0;         // 0: all weights are zero; NaN: one of them is not finite
  std::vector<int32_t> e;  // (columns / 32), nibble and byte
  std::vector<int32_t> f;  // (columns / 32), nibble
  std::vector<int32_t> q;  // (columns): nibble 0 ... 15, byte -128 ... 127, word W itself
};

// Fills `out`, whose vectors are reused from row to row.
void integer_row(DType dtype, const void* row, int64_t columns, IntegerRow& out);

// W of column `column`.
int32_t integer_weight(WeightKind kind, const IntegerRow& row, int64_t column);

}  // namespace neutrino::compute
