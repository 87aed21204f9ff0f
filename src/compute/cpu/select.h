// Which kernel table runs here.
#pragma once

#include <string_view>

#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {

// "": NEUTRINO_ISA, else the best that this CPU has. Throws Error{invalid_argument} for an unknown name and
// Error{failed_precondition} for a table that this CPU cannot run.
const Kernels& select_kernels(std::string_view name);

}  // namespace neutrino::compute::cpu
