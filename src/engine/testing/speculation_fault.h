// For negative controls: an engine that takes one guess for right that is not.
#pragma once

#include "engine/engine.h"

namespace neutrino::engine {

struct SpeculationFault {
  static void accept_too_many(const Engine& engine) {
    const_cast<Speculation&>(engine.speculation()).accepts_too_many_ = true;
  }
};

}  // namespace neutrino::engine
