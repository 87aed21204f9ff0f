// A backend that only counts: models are loaded into it to learn what they will take, without reading their weights.
#pragma once

#include <memory>

#include "compute/backend.h"

namespace neutrino::compute {

// Bytes that the CPU backend holds for a matrix of this type, in its own layout.
int64_t held_bytes(const WeightView& weights, Arithmetic arithmetic);

// Its matrices say what they would hold; weight_bytes() is the sum of all that were loaded. It computes nothing: an operation
// on tensors is a bug and ends the process.
class SizingBackend : public Backend {
 public:
  virtual int64_t weight_bytes() const = 0;
};
std::unique_ptr<SizingBackend> make_sizing_backend(Arithmetic arithmetic);

}  // namespace neutrino::compute
