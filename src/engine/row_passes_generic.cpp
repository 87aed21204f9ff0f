#include "engine/row_passes.h"

namespace neutrino::engine {
namespace {

constexpr size_t kFloats = 4;
#include "engine/row_passes.inl"

}  // namespace

const RowPasses kGenericPasses = {.name = "generic",
                                  .extents = extents,
                                  .exponentials = exponentials_or_sums,
                                  .sums_in_double = sums_in_double,
                                  .tiers = tiers};

}  // namespace neutrino::engine
