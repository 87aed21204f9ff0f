// Which kernel table runs here.
#pragma once

#include <string_view>

#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {

// "": NEUTRINO_ISA, else the best that this CPU has. Throws Error{invalid_argument} for an unknown name and
// Error{failed_precondition} for a table that this CPU cannot run.
const Kernels& select_kernels(std::string_view name);

// kAvx512Kernels with the products and attention of `tiles`.
Kernels with_tiles(const TileKernels& tiles);

// Whether small integer products of every kind have the same bits in both tables: activation rows are `table`'s, which
// `expected` can read as well. Under a millisecond.
bool same_products(const Kernels& table, const Kernels& expected);

// The same of attention over a few blocks of bfloat16.
bool same_attention(const Kernels& table, const Kernels& expected);

}  // namespace neutrino::compute::cpu
