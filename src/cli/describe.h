// A command's flags and verbs as data: what shell completions are made from, and tests walk over.
#pragma once

#include <string_view>

#include "base/json.h"

namespace CLI {
class App;
}

namespace neutrino::cli {

// Alone on the command line of any subcommand, it prints describe() of it and ends.
inline constexpr std::string_view kDescribeFlag = "--describe";

// {"name", "help", "options": [{"names", "help", "takes_value", "choices"}], "verbs": [the same]}
json::object describe(const CLI::App& app);
void print_description(const CLI::App& app);

}  // namespace neutrino::cli
