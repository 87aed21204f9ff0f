// Memory for weights on huge pages.
//
// A step reads every weight once, from all over the model; with 4 KB pages the address translation alone costs a quarter of
// the bandwidth. A matrix is smaller than the 2 MB that a huge page wants, so matrices are cut from large slabs.
#pragma once

#include <cstdint>
#include <memory>

namespace neutrino::compute::cpu {

class WeightMemory {
 public:
  // Zeroed, aligned to 64 bytes; the slab lives as long as anything cut from it. Throws Error where memory cannot be had.
  std::shared_ptr<uint8_t> take(int64_t bytes);

 private:
  std::shared_ptr<uint8_t> slab_;
  int64_t capacity_ = 0;
  int64_t used_ = 0;
};

}  // namespace neutrino::compute::cpu
