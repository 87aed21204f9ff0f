// Where the settings of `serve` come from: flags, then NIM_PASSTHROUGH_ARGS, NEUTRINO_* and NIM_* variables, the profile, a
// file, and the defaults, in this order. A NEUTRINO_* variable is named after the flag: --kv-type is NEUTRINO_KV_TYPE.
//
// What is set is turned into flags and parsed with those of the command line, so that every source has the same names, types and checks.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace neutrino::cli {

// The environment: a variable's value, and all names that begin with a prefix.
struct Environment {
  std::function<std::optional<std::string>(const std::string& name)> get;
  std::function<std::vector<std::string>(std::string_view prefix)> names;
};
Environment process_environment();

struct GatheredSettings {
  std::vector<std::string> arguments;  // for CLI::App::parse: those of the command line and what else is set
  std::map<std::string, std::string>
      sources;  // of each option that is set: "flag", "NIM_SERVER_PORT", "profile", a file's path
  std::vector<std::string> notes;  // variables that have no effect, and why
};

// `probe`: an App with the same options as the one that will be parsed, and --config and --profile among them; it is used up.
// Flags that are wrong are left for that App to complain about. Throws Error{invalid_argument} for a variable or a file
// that asks for what this build does not have. `profile` gives the settings of a profile of a model.
using ProfileSettings =
    std::function<std::map<std::string, std::string>(const std::string& model, const std::string& profile)>;
GatheredSettings gather_settings(CLI::App& probe, int argc, const char* const* argv,
                                 const Environment& environment, const ProfileSettings& profile);

// Every option with its value and where it comes from: {"name", "value", "source"}. Keys are not shown.
json::array settings_json(const CLI::App& parsed, const GatheredSettings& gathered);
void print_settings(const json::array& settings);

}  // namespace neutrino::cli
