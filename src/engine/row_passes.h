// The loops over a row of logits that cost time, one table per width of vector. Both add up the same sixteen lanes in the same
// order, without fused operations, so their bits are the same.
//
// Files of a table are compiled with flags of their own, so they include nothing that leaves shared code behind.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace neutrino::engine {

// `count` is a multiple of sixteen everywhere. Element i goes to lane i % 16 (or % 8).
struct RowPasses {
  const char* name;
  // The largest of each lane, and the sum of each lane's elements times zero: NaN where one is NaN or infinite.
  void (*extents)(const float* row, size_t count, float* maxima, float* zeros);
  // Lanes of the sums of exp((x - maximum) * scale); `terms` gets the terms, unless it is null.
  void (*exponentials)(const float* row, size_t count, float maximum, float scale, float* sums, float* terms);
  // Eight lanes of the sum in double.
  void (*sums_in_double)(const float* row, size_t count, double* sums);
  // Of the elements that are at least `least`: lanes of how many, and of their sum.
  void (*tiers)(const float* row, size_t count, float least, int32_t* counts, float* sums);
};

extern const RowPasses kGenericPasses, kAvx2Passes;

const RowPasses& row_passes();  // the one for this CPU

}  // namespace neutrino::engine
