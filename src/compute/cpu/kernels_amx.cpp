// Products on the matrix tiles of AMX-INT8; all else is the AVX-512 table's.

#include <immintrin.h>

#include "compute/cpu/kernels.h"
#include "compute/cpu/tiles.h"

namespace neutrino::compute::cpu {
namespace {

#include "compute/cpu/tiles_amx.inl"
//
#include "compute/cpu/kernels_amx.inl"
//
#include "compute/cpu/tile_attention.inl"

}  // namespace

const TileKernels kAmxTiles = {
    "amx", quantize, nibble_panels, five_panels, word_panels, vectors::attend_on_tiles, kWorkBytes};

}  // namespace neutrino::compute::cpu
