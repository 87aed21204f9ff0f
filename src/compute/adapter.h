// Low-rank adapters (LoRA, Hu et al. 2021) beside the weights: W x becomes W x + B (A x) for the rows of the sequences that have
// one. A batch may hold many; rows without one have the bits that they have when no adapter is loaded.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace neutrino::compute {

// What an adapter does to one tensor of the weights, whose name a WeightView told when its matrix was loaded.
struct LowRankUpdate {
  std::string tensor;  // "blk.0.attn_q.weight"
  int64_t rows = 0, columns = 0, rank = 0;
  std::span<const float> a;  // (rank, columns)
  std::span<const float> b;  // (rows, rank), the adapter's scale in it
};

// An adapter in a backend's layout. SequenceRows refer to it; it must not outlive its backend.
class Adapter {
 public:
  virtual ~Adapter() = default;
  virtual int64_t bytes() const = 0;
  virtual int64_t rank() const = 0;  // the largest
};

}  // namespace neutrino::compute
