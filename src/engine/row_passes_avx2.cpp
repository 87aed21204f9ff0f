#include "engine/row_passes.h"

namespace neutrino::engine {
namespace {

constexpr size_t kFloats = 8;
#include "engine/row_passes.inl"

}  // namespace

const RowPasses kAvx2Passes = {.name = "avx2",
                               .extents = extents,
                               .exponentials = exponentials_or_sums,
                               .sums_in_double = sums_in_double,
                               .tiers = tiers};

}  // namespace neutrino::engine
