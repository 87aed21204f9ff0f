// From the replicas that a deployment has to those it should have, one small move at a time: a pure function.
//
// Moves: make a replica of the wanted revision, drain one, take one back that is being drained. Never more than the wanted number
// and surge_max of them take room, and never fewer than the wanted number less unavailable_max can serve because of a move. An old
// replica goes only when the others can do without it, so a revision that never becomes ready changes nothing.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "cloud/resources.h"

namespace neutrino::cloud {

struct Moves {
  int64_t make = 0;  // of revision `revision`
  int64_t revision = 0;
  std::vector<const Replica*> drain;
  std::vector<const Replica*> take_back;
};

// `replicas`: all of the deployment's that are not gone. `load`: tokens in flight at one; those with the least go first.
Moves next_moves(const Deployment& deployment, const std::vector<const Replica*>& replicas,
                 const std::function<double(const Replica&)>& load);

}  // namespace neutrino::cloud
