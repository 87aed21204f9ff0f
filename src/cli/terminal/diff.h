// What differs between two JSON values, field by field.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/terminal/screen.h"

namespace neutrino::cli {

struct Difference {
  std::string path;      // "scaling.replicas_max", "deployments[1]"
  json::value from, to;  // null: it is not there, or is null
};

// In the order of `from`, then what only `to` has. Items of two arrays are compared by their `name` where all have one of their own,
// else by their place.
std::vector<Difference> differences(const json::value& from, const json::value& to);

// A line each: "    scaling.replicas_max: 1 -> 3".
std::string text_of(const std::vector<Difference>& all, const Screen& screen);

}  // namespace neutrino::cli
