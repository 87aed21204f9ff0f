// How much memory a replica of a model will need: asked of the program that would serve it, since nothing in cloud/ knows models.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cloud/desired.h"

namespace neutrino::cloud {

// Bytes: weights, KV cache for one longest sequence, buffers, and some room beside them. Runs `neutrino serve MODEL --list-profiles`,
// which reads a model's header only. Throws Error{invalid_argument} with what the program says for a model or an argument that it does not
// take, Error{unavailable} if it does not answer within 30 s.
int64_t predict_memory(const ServeProgram& program, const std::string& model,
                       const std::vector<std::string>& arguments);

// The part without a process: `profiles` is what the program printed as JSON.
int64_t memory_of_profiles(const std::string& profiles, const std::vector<std::string>& arguments);

}  // namespace neutrino::cloud
