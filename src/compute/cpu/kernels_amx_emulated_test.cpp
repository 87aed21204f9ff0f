// The kernels of kernels_amx.cpp on emulated tiles, for kernels_amx_test.cpp and backend_test.cpp. Compiled for AVX-512, so
// there is nothing else here.

#include <immintrin.h>

#include "compute/cpu/kernels.h"
#include "compute/cpu/tiles.h"

namespace neutrino::compute::cpu {
namespace {

#include "compute/cpu/tiles_emulated.inl"
//
#include "compute/cpu/kernels_amx.inl"
//
#include "compute/cpu/tile_attention.inl"

}  // namespace

extern const TileKernels kEmulatedTiles;
const TileKernels kEmulatedTiles = {
    "amx_emulated", quantize, nibble_panels, five_panels, word_panels, vectors::attend_on_tiles, kWorkBytes};

}  // namespace neutrino::compute::cpu
