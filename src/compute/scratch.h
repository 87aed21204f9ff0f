// Memory for the results of a step: one reserved piece, taken from the front and given back by mark.
#pragma once

#include <cstddef>
#include <cstdint>

#include "compute/tensor.h"

namespace neutrino::compute {

class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch();

  void reserve(int64_t bytes);  // at least; forgets what was taken
  int64_t mark() const { return used_; }
  void release(int64_t mark);
  std::byte* take(
      int64_t bytes);  // aligned to 64 bytes, not zeroed; a check() where the reserve is too small
  Tensor tensor(int64_t rows, int64_t columns);

 private:
  std::byte* data_ = nullptr;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
};

}  // namespace neutrino::compute
