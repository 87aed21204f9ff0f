#include "cli/settings.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <sstream>

#include "base/error.h"
#include "base/file.h"
#include "cli/nim_variables.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kConfigBytes = 1 << 20;

// "kv-type", or "MODEL" of the one that has no dashes.
std::string name_of(const CLI::Option& option) {
  return option.get_lnames().empty() ? option.get_name(true) : option.get_lnames()[0];
}

bool is_flag(const CLI::Option& option) { return option.get_items_expected_max() == 0; }
bool is_list(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

// A setting outside the command line.
struct Value {
  std::vector<std::string> values;
  std::string source;
};

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream{std::string(text)};
  for (std::string part; std::getline(stream, part, separator);)
    if (!part.empty()) parts.push_back(part);
  return parts;
}

bool is_true(std::string_view text) { return text == "1" || text == "true" || text == "on" || text == "yes"; }
bool is_false(std::string_view text) {
  return text.empty() || text == "0" || text == "false" || text == "off" || text == "no";
}

class Gatherer {
 public:
  Gatherer(CLI::App& probe, const Environment& environment, GatheredSettings& result)
      : probe_(probe), environment_(environment), result_(result) {}

  void run(const ProfileSettings& profile);

 private:
  void read_own_variables();
  void read_nim_variables();
  void read_nim_variable(const NimVariable& variable, const std::string& text);
  void read_file();
  void read_profile(const ProfileSettings& profile);
  void set(const std::string& name, Value value);
  const CLI::Option* find(const std::string& name) const;
  std::optional<std::string> value_of(const std::string& name) const;
  void append_arguments();

  CLI::App& probe_;
  const Environment& environment_;
  GatheredSettings& result_;
  std::map<std::string, Value> values_;  // the first to say something about an option is heard
};

const CLI::Option* Gatherer::find(const std::string& name) const {
  for (const CLI::Option* option : std::as_const(probe_).get_options())
    if (name_of(*option) == name) return option;
  return nullptr;
}

void Gatherer::set(const std::string& name, Value value) {
  if (find(name)->count() == 0) values_.try_emplace(name, std::move(value));
}

std::optional<std::string> Gatherer::value_of(const std::string& name) const {
  const CLI::Option* option = find(name);
  if (option && option->count() > 0) return option->results()[0];
  const auto value = values_.find(name);
  if (value == values_.end() || value->second.values.empty()) return std::nullopt;
  return value->second.values[0];
}

void Gatherer::read_own_variables() {
  for (const CLI::Option* option : std::as_const(probe_).get_options()) {
    const std::string name = name_of(*option);
    std::string variable = "NEUTRINO_" + name;
    for (char& c : variable)
      c = c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const auto text = environment_.get(variable);
    if (!text || name == "help" || variable == "NEUTRINO_HOME") continue;
    const bool many = is_list(*option) && name != "api-key";
    set(name, {many ? split(*text, ',') : std::vector{*text}, variable});
  }
}

void Gatherer::read_nim_variable(const NimVariable& variable, const std::string& text) {
  using enum NimVariable::Meaning;
  const std::string name(variable.name);
  if (variable.meaning == one_only) {
    if (text != "1")
      throw make_error(ErrorCode::invalid_argument,
                       "{} must be 1: one process serves one model, got \"{:.40}\"", name, text);
    return;
  }
  if (variable.meaning == noted) return result_.notes.push_back(fmt::format("{}: {}", name, variable.why));
  const std::string option(variable.option);
  if (!find(option))
    throw make_error(ErrorCode::invalid_argument, "{} needs --{}, which this build does not have", name,
                     option);
  if (variable.meaning == list)
    set(option, {split(text, ','), name});
  else if (variable.meaning == on_off)
    set(option, {{is_true(text) ? "on" : "off"}, name});
  else
    set(option, {{text}, name});
}

void Gatherer::read_nim_variables() {
  for (const std::string& name : environment_.names("NIM_")) {
    const std::string text = environment_.get(name).value_or("");
    if (text.empty()) continue;
    const auto known = std::ranges::find(nim_variables(), name, &NimVariable::name);
    if (known == nim_variables().end())
      result_.notes.push_back(fmt::format("{}: not known here, without effect", name));
    else
      read_nim_variable(*known, text);
  }
}

std::vector<std::string> texts_of(const json::value& value, const std::string& name) {
  if (value.is_string()) return {std::string(value.get_string())};
  if (value.is_bool()) return {value.get_bool() ? "true" : "false"};
  if (value.is_number()) return {to_text(value)};
  if (!value.is_array())
    throw make_error(ErrorCode::invalid_argument, "{} must be a string, a number, a boolean or a list", name);
  std::vector<std::string> texts;
  for (const json::value& item : value.get_array())
    for (std::string& text : texts_of(item, name)) texts.push_back(std::move(text));
  return texts;
}

void Gatherer::read_file() {
  const auto path = value_of("config");
  if (!path) return;
  const json::value parsed = parse_json(neutrino::read_file(*path, kConfigBytes));
  if (!parsed.is_object())
    throw make_error(ErrorCode::invalid_argument, "{} must hold a JSON object of flags and values", *path);
  for (const auto& [key, value] : parsed.get_object()) {
    const std::string name(key);
    if (!find(name) || name == "config" || name == "help")
      throw make_error(ErrorCode::invalid_argument, "{}: \"{:.60}\" is not a flag of serve", *path, name);
    set(name, {texts_of(value, fmt::format("{}: {}", *path, name)), *path});
  }
}

void Gatherer::read_profile(const ProfileSettings& profile) {
  const auto name = value_of("profile"), model = value_of("MODEL");
  if (!name || *name == "default" || !model) return;
  for (const auto& [option, value] : profile(*model, *name)) set(option, {{value}, "profile"});
}

void Gatherer::append_arguments() {
  for (const auto& [name, value] : values_) {
    const CLI::Option& option = *find(name);
    for (const std::string& text : value.values) {
      if (option.get_lnames().empty())
        result_.arguments.push_back(text);
      else if (!is_flag(option))
        result_.arguments.push_back(fmt::format("--{}={}", name, text));
      else if (is_true(text))
        result_.arguments.push_back("--" + name);
      else if (!is_false(text))
        throw make_error(ErrorCode::invalid_argument, "{} must be 1 or 0, got \"{:.40}\"", value.source,
                         text);
    }
    result_.sources[name] = value.source;
  }
}

void Gatherer::run(const ProfileSettings& profile) {
  for (const CLI::Option* option : std::as_const(probe_).get_options())
    if (option->count() > 0) result_.sources[name_of(*option)] = "flag";
  read_own_variables();
  read_nim_variables();
  read_profile(profile);
  read_file();
  append_arguments();
}

// Words in any quotes: as a shell would cut them, without anything else that a shell does.
std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  std::string word;
  char quote = 0;
  bool inside = false;
  for (const char c : text) {
    if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
      inside = true;
    } else if (c == quote) {
      quote = 0;
    } else if (quote == 0 && std::isspace(static_cast<unsigned char>(c))) {
      if (std::exchange(inside, false)) words.push_back(std::exchange(word, {}));
    } else {
      word += c;
      inside = true;
    }
  }
  if (inside) words.push_back(word);
  return words;
}

// Options as the command line gives them; false: something is wrong with it.
bool parse_probe(CLI::App& probe, std::vector<std::string> arguments) {
  for (CLI::Option* option : probe.get_options()) option->required(false)->envname("");
  std::ranges::reverse(arguments);  // what parse() wants
  try {
    probe.parse(arguments);
    return true;
  } catch (const CLI::ParseError&) {
    return false;
  }
}

bool is_secret(const std::string& name) { return name == "api-key"; }

}  // namespace

Environment process_environment() {
  return {.get = [](const std::string& name) -> std::optional<std::string> {
            const char* value = std::getenv(name.c_str());
            return value ? std::optional<std::string>(value) : std::nullopt;
          },
          .names =
              [](std::string_view prefix) {
                std::vector<std::string> names;
                for (char** entry = environ; *entry; ++entry) {
                  const std::string_view text(*entry);
                  if (text.starts_with(prefix)) names.emplace_back(text.substr(0, text.find('=')));
                }
                std::ranges::sort(names);
                return names;
              }};
}

GatheredSettings gather_settings(CLI::App& probe, int argc, const char* const* argv,
                                 const Environment& environment, const ProfileSettings& profile) {
  GatheredSettings result;
  for (int i = 1; i < argc; ++i) result.arguments.emplace_back(argv[i]);
  // Flags of the command line come last, so that of an option given twice theirs is the one that counts.
  std::vector<std::string> all = words_of(environment.get("NIM_PASSTHROUGH_ARGS").value_or(""));
  all.insert(all.end(), result.arguments.begin(), result.arguments.end());
  result.arguments = all;
  if (parse_probe(probe, all)) Gatherer(probe, environment, result).run(profile);
  return result;
}

json::array settings_json(const CLI::App& parsed, const GatheredSettings& gathered) {
  json::array settings;
  for (const CLI::Option* option : parsed.get_options()) {
    const std::string name = name_of(*option);
    if (name == "help" || name == "dry-run" || name == "list-profiles" || name == "json") continue;
    std::string value;
    if (option->count() == 0)
      value = is_flag(*option) ? "off" : option->get_default_str();
    else if (is_flag(*option))
      value = "on";
    else
      for (const std::string& text : option->results())
        value += (value.empty() ? "" : ",") + (is_secret(name) ? std::string("***") : text);
    const auto source = gathered.sources.find(name);
    settings.push_back(
        json::object{{"name", name},
                     {"value", value},
                     {"source", source == gathered.sources.end() ? std::string("default") : source->second}});
  }
  return settings;
}

void print_settings(const json::array& settings) {
  for (const json::value& setting : settings)
    fmt::print("{:<22} {:<32} {}\n", std::string_view(setting.at("name").as_string()),
               std::string_view(setting.at("value").as_string()),
               std::string_view(setting.at("source").as_string()));
}

}  // namespace neutrino::cli
