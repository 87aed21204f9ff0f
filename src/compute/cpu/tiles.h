// Matrix tiles (Intel AMX): eight registers of up to 16 rows of 64 bytes, whose shapes a configuration sets.
//
// tiles_amx.inl has the instructions, tiles_emulated.inl the same functions in plain C++, so that kernels written with them
// (kernels_amx.inl) are tested on any CPU. Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2,
// LDTILECFG, TILELOADD, TILESTORED, TILEZERO, TDPBSSD/SUD/USD/UUD,
// TDPBF16PS.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace neutrino::compute::cpu {

constexpr int kTiles = 8, kTileRows = 16, kTileRowBytes = 64, kTileBytes = kTileRows * kTileRowBytes;

// LDTILECFG's operand.
struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};  // of each tile; 0: the tile is not used
  uint8_t rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

}  // namespace neutrino::compute::cpu
