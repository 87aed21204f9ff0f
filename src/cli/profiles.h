// Profiles, as NIM has them: the ways in which this machine could run a model, and whether it has the memory.
//
// What tells them apart here is the arithmetic and how keys and values are kept. A profile's id is the SHA-256 of its name.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/memory.h"
#include "weights/store.h"

namespace neutrino::cli {

struct Profile {
  std::string name;                             // "neutrino-cpu-q4_1-kv_bf16"
  std::string id;                               // 64 hexadecimal digits
  std::map<std::string, std::string> settings;  // flags of serve and their values
};

std::vector<Profile> profiles_of(const weights::ModelFacts& facts);
std::string profile_id(const weights::ModelFacts& facts, bool exact, std::string_view kv_type);
// By its id, the beginning of it (8 digits or more) or its name. Throws Error{not_found} that lists the names.
Profile find_profile(const weights::ModelFacts& facts, std::string_view wanted);

// Each profile with what it takes for one sequence of `context` tokens (0: the model's): {"profile", "id", "group", "requires_bytes",
// ...}. group: "runnable"; "low memory", with the context that fits; "incompatible", with the reason.
json::array list_profiles(const weights::OpenModel& model, int64_t context, const AvailableMemory& available);
void print_profiles(const json::array& profiles, const AvailableMemory& available);

}  // namespace neutrino::cli
