// What all subcommands do with their command line: parse it, print help, and turn a bad flag into exit code 2.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/describe.h"

namespace neutrino::cli {

// nullopt: go on. Otherwise the exit code: 0 after --help, 2 after an error (already printed).
inline std::optional<int> parse_options(CLI::App& app, int argc, char** argv) {
  app.set_help_flag("-h,--help", "print this help and exit");
  app.get_formatter()->column_width(34);
  if (argc == 2 && argv[1] == kDescribeFlag) return print_description(app), 0;
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

// The same of arguments without the program's name.
inline std::optional<int> parse_options(CLI::App& app, std::vector<std::string> arguments) {
  std::vector<const char*> argv{app.get_name().c_str()};
  for (const std::string& argument : arguments) argv.push_back(argument.c_str());
  return parse_options(app, static_cast<int>(argv.size()), const_cast<char**>(argv.data()));
}

}  // namespace neutrino::cli
