// Counts heap allocations of the test binary, on all threads.

#include <atomic>
#include <cstdlib>
#include <new>

#include "compute/test_support.h"

namespace {
std::atomic<int64_t> count = 0;
}

void* operator new(size_t size) {
  ++count;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace neutrino::compute::testing {
int64_t allocations() { return count; }
}  // namespace neutrino::compute::testing
