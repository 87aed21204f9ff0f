// Weights as integers: w is about W * scale with one float32 scale a row, so that a dot product with integer activations is
// an exact integer sum, and its order does not exist.
//
//   nibble (q4_0, q4_1, q4_k)      W = e (q - 8) + f, one int16 pair e, f per 32 columns, q the file's nibble
//   five   (q5_0, q5_1, q5_k)      W = e (q - 16) + f, the same with q of five bits
//   six    (q6_k)                  W = e s (q - 32), e per 256 columns, s the file's int8 per 16, q of six bits
//   code   (iq4_nl, iq4_xs, mxfp4) W = e c[q], e per 32 columns, c the type's 16 values (int8), q the file's nibble
//   byte   (q8_0)                  W = e q, e per 32 columns, q the file's byte
//   word   (all others)            W an int16
//
// The scale is, of nibbles and fives, the row's largest magnitude over 16383; of six, code and byte, the largest e over 2^17,
// so that e has 18 bits; of words the largest magnitude over 32767. It is doubled until the kernels' sums fit: for nibbles and
// fives 127 * sum|W| < 2^31 (they sum the high and the low part of an activation in int32), for words 16256 * sum|W| < 2^31 in
// each run of 128 columns (which they sum in int32), for the others 16256 * sum|W| < 2^53 (they sum blocks in float64). Words so
// keep about 12 bits of an even row and 13 of a normal one.
//
// A weight is off by at most |q - 8| / 2 + 1/2 (4.5) or 8.5 (five) of 16383 parts of the row's largest magnitude, and by half
// of 2^-17 of the largest e times |s (q - 32)|, |c[q]| or |q| for those with e of 18 bits.
#pragma once

#include <cstdint>
#include <vector>

#include "compute/dtype.h"

namespace neutrino::compute {

enum class WeightKind : uint8_t { nibble, five, six, code, byte, word };

WeightKind weight_kind(DType dtype);

// The 16 values of a type of kind `code`; null for the others.
const int8_t* codebook_of(DType dtype);

struct IntegerRow {
  float scale = 0;                   // 0: all weights are zero; NaN: one of them is not finite
  std::vector<int32_t> e;            // (columns / 32), six: (columns / 256); word: none
  std::vector<int32_t> f;            // nibble and five: (columns / 32); six: s, (columns / 16)
  std::vector<int32_t> q;            // (columns): the file's integer; word: W itself
  const int8_t* codebook = nullptr;  // code
};

// Fills `out`, whose vectors are reused from row to row.
void integer_row(DType dtype, const void* row, int64_t columns, IntegerRow& out);

// W of column `column`.
int32_t integer_weight(WeightKind kind, const IntegerRow& row, int64_t column);

}  // namespace neutrino::compute
