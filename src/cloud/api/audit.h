// The audit log: who called what with which end. Only what changed something, and what was refused for want of a permission.
#pragma once

#include <string>

#include "cloud/api/api.h"

namespace neutrino::cloud {

struct CallEnd {
  int status = 0;
  std::string message = {};  // of a refusal
};

void note_call(store::Transaction& transaction, const Tables& tables, const ApiCall& call,
               const CallEnd& end);

// Whose key a refused request carries, as far as it can be told, so that its workspace sees the refusal; else an empty caller.
Caller holder_of(store::Transaction& transaction, const Tables& tables, const net::Request& request);

}  // namespace neutrino::cloud
