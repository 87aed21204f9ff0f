// Attention on tiles with the vectors that it needs, in a namespace of its own. Included after the tile functions.

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"  // most of rows.inl
namespace vectors {

#include "compute/cpu/vectors_avx512.inl"
//
#include "compute/cpu/quantize_block.inl"
//
#include "compute/cpu/rows.inl"
//
#include "compute/cpu/attention.inl"
//
#include "compute/cpu/attention_amx.inl"

}  // namespace vectors
#pragma GCC diagnostic pop
