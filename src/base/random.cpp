#include "base/random.h"

#include <sys/random.h>

#include "base/error.h"

namespace neutrino {

uint64_t system_entropy() {
  uint64_t bits = 0;
  check(getrandom(&bits, sizeof bits, 0) == sizeof bits);
  return bits;
}

}  // namespace neutrino
