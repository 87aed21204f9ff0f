#include "cli/describe.h"

#include <CLI/CLI.hpp>
#include <cstdio>

namespace neutrino::cli {
namespace {

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

// CLI11 keeps the words of IsMember only as its description: "{day,month,total}".
json::array choices_of(const CLI::Option& option) {
  json::array choices;
  std::string type = option.get_type_name();
  const size_t begin = type.find('{'), end = type.find('}');
  if (begin == type.npos || end == type.npos) return choices;
  for (size_t at = begin + 1; at <= end; ++at) {
    const size_t stop = type.find_first_of(",}", at);
    choices.emplace_back(type.substr(at, stop - at));
    at = stop;
  }
  return choices;
}

json::object describe_option(const CLI::Option& option) {
  json::array names;
  for (const std::string& name : option.get_snames()) names.emplace_back("-" + name);
  for (const std::string& name : option.get_lnames()) names.emplace_back("--" + name);
  return {{"names", std::move(names)},
          {"help", first_line(option.get_description())},
          {"takes_value", option.get_items_expected_max() > 0},
          {"choices", choices_of(option)}};
}

}  // namespace

json::object describe(const CLI::App& app) {
  json::array options, verbs;
  for (const CLI::Option* option : app.get_options())
    if (!option->get_positional()) options.push_back(describe_option(*option));
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    verbs.push_back(describe(*verb));
  return {{"name", app.get_name()},
          {"help", first_line(app.get_description())},
          {"options", std::move(options)},
          {"verbs", std::move(verbs)}};
}

void print_description(const CLI::App& app) { std::printf("%s\n", to_text(describe(app)).c_str()); }

}  // namespace neutrino::cli
