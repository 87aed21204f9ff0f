// A replica's keeper: a tiny process that starts it, collects its output, ends it and notes how it ended.
//
// It is detached from who started it, so that a replica outlives the control plane, the supervisor and the gateway, and somebody is
// there when it ends: only a parent gets to know an exit status. It takes no decisions: one keeper, one generation, one run.
// A keeper that is killed takes its replica along; what remains of it the provider finds and ends (ProviderOptions, observe()).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"

namespace neutrino::cloud {

// The hidden command `neutrino keeper FOLDER GENERATION`; descriptor 3 is what environment_file() made. Returns when the replica is over, with
// the exit code for main: 0, also if there is nothing to do, or 1 if it could not even note what happened.
int run_keeper(const std::filesystem::path& folder, int64_t generation);

// The replica's environment in memory, on its way to the keeper: it may hold secrets, which belong neither on disk nor into the
// environment of a program of ours.
FileDescriptor environment_file(const std::vector<std::string>& environment);

}  // namespace neutrino::cloud
