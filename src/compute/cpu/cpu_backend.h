// The CPU backend on a kernel table of the caller's.
#pragma once

#include <memory>

#include "compute/backend.h"
#include "compute/cpu/kernels.h"

namespace neutrino::compute::cpu {

// make_cpu_backend() with `kernels`, which must outlive the backend, in the place of options.isa.
std::unique_ptr<Backend> make_backend(const BackendOptions& options, const Kernels& kernels);

// How often a backend of this kind has called its threads together.
int64_t forks(const Backend& backend);

// How many KV blocks it has gone through: of each layer and key/value head, each once for all rows that go through them
// together. For layers without a window.
int64_t block_reads(const Backend& backend);

}  // namespace neutrino::compute::cpu
