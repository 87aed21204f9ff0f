#include "compute/scratch.h"

#include <sys/mman.h>

#include "base/checked.h"
#include "base/error.h"

namespace neutrino::compute {

Scratch::~Scratch() {
  if (data_) munmap(data_, static_cast<size_t>(capacity_));
}

void Scratch::reserve(int64_t bytes) {
  used_ = 0;
  if (bytes <= capacity_) return;
  void* memory =
      mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED)
    throw make_error(ErrorCode::resource_exhausted, "no memory for {} bytes of scratch", bytes);
  madvise(memory, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  if (data_) munmap(data_, static_cast<size_t>(capacity_));
  data_ = static_cast<std::byte*>(memory);
  capacity_ = bytes;
}

void Scratch::release(int64_t mark) {
  check(mark <= used_, "scratch is released in the order it was taken");
  used_ = mark;
}

std::byte* Scratch::take(int64_t bytes) {
  const int64_t size = ceil_div(bytes, 64) * 64;
  check(bytes >= 0 && size <= capacity_ - used_,
        "Backend::reserve() asked for less scratch than a step takes");
  used_ += size;
  return data_ + used_ - size;
}

Tensor Scratch::tensor(int64_t rows, int64_t columns) {
  const int64_t bytes = rows * columns * static_cast<int64_t>(sizeof(float));
  return {.data = reinterpret_cast<float*>(take(bytes)), .rows = rows, .columns = columns, .stride = columns};
}

}  // namespace neutrino::compute
