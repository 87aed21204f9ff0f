// neutrino keeper FOLDER GENERATION: the process beside a replica on this machine (cloud/providers/keeper.h). The local provider starts it.
#include "cloud/providers/keeper.h"

#include <charconv>
#include <cstring>

#include "base/error.h"
#include "cli/command.h"

namespace neutrino::cli {

int run_keeper(int argc, char** argv) {
  int64_t generation = 0;
  if (argc == 3) std::from_chars(argv[2], argv[2] + std::strlen(argv[2]), generation);
  if (generation < 1)
    throw make_error(ErrorCode::invalid_argument,
                     "neutrino keeper is for the local provider: FOLDER and GENERATION, got {} arguments",
                     argc - 1);
  return cloud::run_keeper(argv[1], generation);
}

}  // namespace neutrino::cli
