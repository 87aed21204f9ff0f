#include "compute/cpu/weight_memory.h"

#include <sys/mman.h>

#include <algorithm>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::compute::cpu {
namespace {

constexpr int64_t kHugePage = 2 << 20;
constexpr int64_t kSlab = 64 << 20;

std::shared_ptr<uint8_t> map_slab(int64_t bytes) {
  const auto size = static_cast<size_t>(bytes + kHugePage);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw make_error(ErrorCode::resource_exhausted, "no memory for {} bytes of weights", bytes);
  const std::shared_ptr<void> mapping(memory, [size](void* address) { munmap(address, size); });
  const uintptr_t start = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(start), static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return {mapping, reinterpret_cast<uint8_t*>(start)};
}

}  // namespace

std::shared_ptr<uint8_t> WeightMemory::take(int64_t bytes) {
  const int64_t size = ceil_div(bytes, 64) * 64;
  if (size > capacity_ - used_) {
    capacity_ = ceil_div(std::max(size, kSlab), kHugePage) * kHugePage;
    slab_ = map_slab(capacity_);
    used_ = 0;
  }
  used_ += size;
  return {slab_, slab_.get() + used_ - size};
}

}  // namespace neutrino::compute::cpu
