// neutrino completion bash|zsh|fish: a script that completes commands, verbs, flags and their words.
//
// The commands describe themselves (describe.h), each in a process of its own, so a new flag is completed without a line here.

#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/json.h"
#include "base/process.h"
#include "cli/command.h"
#include "cli/describe.h"
#include "cli/options.h"

namespace neutrino::cli {
namespace {

struct Word {
  std::string text, help;
  bool takes_value = false;
  std::vector<std::string> choices;
};

// What may follow after some words: "endpoint create".
struct Place {
  std::string words;
  std::vector<Word> verbs, flags;
};

// ---- what there is

std::string output_of(std::vector<std::string> argv) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw system_error("open", "a pipe");
  const FileDescriptor read_end(ends[0]);
  FileDescriptor write_end(ends[1]);
  const ProcessIdentity child =
      spawn({.argv = std::move(argv), .output = write_end.get(), .group = ProcessGroup::callers});
  write_end = FileDescriptor();
  std::string output;
  char buffer[4096];
  for (ssize_t got; (got = ::read(read_end.get(), buffer, sizeof buffer)) > 0;)
    output.append(buffer, static_cast<size_t>(got));
  wait_for(child.pid);
  return output;
}

json::value description_of(const std::string& command) {
  std::vector<std::string> argv{std::filesystem::read_symlink("/proc/self/exe").string()};
  if (!command.empty()) argv.push_back(command);
  argv.emplace_back(kDescribeFlag);
  return parse_json(output_of(std::move(argv)));
}

std::string text_of(const json::value& object, std::string_view key) {
  return std::string(object.at(key).as_string());
}

std::vector<Word> flags_of(const json::value& command) {
  std::vector<Word> flags;
  for (const json::value& option : command.at("options").as_array()) {
    std::vector<std::string> choices;
    for (const json::value& choice : option.at("choices").as_array())
      choices.emplace_back(choice.as_string());
    for (const json::value& name : option.at("names").as_array())
      flags.push_back({std::string(name.as_string()), text_of(option, "help"),
                       option.at("takes_value").as_bool(), choices});
  }
  return flags;
}

void add_places(const std::string& words, const json::value& command, std::vector<Place>& places) {
  Place place{.words = words, .flags = flags_of(command)};
  for (const json::value& verb : command.at("verbs").as_array())
    place.verbs.push_back({text_of(verb, "name"), text_of(verb, "help")});
  places.push_back(std::move(place));
  for (const json::value& verb : command.at("verbs").as_array())
    add_places(words + " " + text_of(verb, "name"), verb, places);
}

std::vector<Place> all_places() {
  const json::value table = description_of("");
  std::vector<Place> places(1);
  for (const json::value& command : table.at("verbs").as_array()) {
    const std::string name = text_of(command, "name");
    places[0].verbs.push_back({name, text_of(command, "help")});
    add_places(name, description_of(name), places);
  }
  return places;
}

// ---- the shells

std::string quoted(std::string text) {  // for a shell, in single quotes
  for (size_t at = 0; (at = text.find('\'', at)) != text.npos; at += 4) text.replace(at, 1, "'\\''");
  return "'" + text + "'";
}

std::string joined(const std::vector<Word>& first, const std::vector<Word>& second) {
  std::string text;
  for (const auto* words : {&first, &second})
    for (const Word& word : *words) text += (text.empty() ? "" : " ") + word.text;
  return text;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : " ") + word;
  return text;
}

// The lines of a `case` that moves on along known verbs. bash and zsh have the same.
std::string steps(const std::vector<Place>& places) {
  std::string patterns;
  for (const Place& place : places)
    if (!place.words.empty()) patterns += (patterns.empty() ? "" : "|") + quoted(place.words);
  return patterns;
}

std::string choice_cases(const std::vector<Place>& places, std::string_view line) {
  std::string cases;
  for (const Place& place : places)
    for (const Word& flag : place.flags)
      if (!flag.choices.empty())
        cases += fmt::format("    {}) {} ;;\n", quoted(place.words + "|" + flag.text),
                             fmt::format(fmt::runtime(line), joined(flag.choices)));
  return cases;
}

std::string bash_script(const std::vector<Place>& places) {
  std::string cases;
  for (const Place& place : places)
    cases +=
        fmt::format("    {}) words={} ;;\n", quoted(place.words), quoted(joined(place.verbs, place.flags)));
  return fmt::format(R"(# Completes neutrino in bash: source <(neutrino completion bash)
_neutrino() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} place= words= word
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case "${{place:+$place }}$word" in
      {}) place="${{place:+$place }}$word" ;;
    esac
  done
  case "$place" in
{}  esac
  case "$place|$previous" in
{}  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}}
complete -o default -F _neutrino neutrino
)",
                     steps(places), cases, choice_cases(places, "words='{}'"));
}

std::string zsh_entries(const Place& place) {
  std::string entries;
  for (const auto* words : {&place.verbs, &place.flags})
    for (const Word& word : *words) {
      std::string name = word.text;
      entries += (entries.empty() ? "" : " ") + quoted(name + ":" + word.help);
    }
  return entries;
}

std::string zsh_script(const std::vector<Place>& places) {
  std::string cases;
  for (const Place& place : places)
    cases += fmt::format("    {}) entries=({}) ;;\n", quoted(place.words), zsh_entries(place));
  return fmt::format(R"(#compdef neutrino
# Completes neutrino in zsh: source <(neutrino completion zsh), or a file _neutrino in $fpath
_neutrino() {{
  local place= word
  local -a entries
  for word in "${{(@)words[2,CURRENT-1]}}"; do
    case "${{place:+$place }}$word" in
      {}) place="${{place:+$place }}$word" ;;
    esac
  done
  case "$place" in
{}  esac
  case "$place|${{words[CURRENT-1]}}" in
{}  esac
  _describe 'neutrino' entries || _files
}}
(( $+functions[compdef] )) && compdef _neutrino neutrino
)",
                     steps(places), cases, choice_cases(places, "entries=({})"));
}

std::string fish_flag(const Place& place, const Word& flag) {
  const bool is_long = flag.text.starts_with("--");
  std::string line =
      fmt::format("complete -c neutrino -n \"__neutrino_at {}\" {} {} -d {}", quoted(place.words),
                  is_long ? "-l" : "-s", flag.text.substr(is_long ? 2 : 1), quoted(flag.help));
  if (!flag.choices.empty())
    line += fmt::format(" -x -a {}", quoted(joined(flag.choices)));
  else if (flag.takes_value)
    line += " -r";
  return line + "\n";
}

std::string fish_script(const std::vector<Place>& places) {
  std::string known, lines;
  for (const Place& place : places) {
    if (!place.words.empty()) known += " " + quoted(place.words);
    for (const Word& verb : place.verbs)
      lines += fmt::format("complete -c neutrino -f -n \"__neutrino_at {}\" -a {} -d {}\n",
                           quoted(place.words), verb.text, quoted(verb.help));
    for (const Word& flag : place.flags) lines += fish_flag(place, flag);
  }
  return fmt::format(R"(# Completes neutrino in fish: neutrino completion fish | source
set -g __neutrino_places{}
function __neutrino_at
  set -l place ''
  for word in (commandline -opc)[2..-1]
    set -l next (string trim -- "$place $word")
    contains -- $next $__neutrino_places; and set place $next
  end
  test "$place" = "$argv[1]"
end
{})",
                     known, lines);
}

}  // namespace

int run_completion(int argc, char** argv) {
  CLI::App app(
      "A script that completes neutrino's commands and flags in a shell.\nExample: source <(neutrino "
      "completion bash)",
      "neutrino completion");
  std::string shell;
  app.add_option("SHELL", shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  const std::vector<Place> places = all_places();
  const std::string script = shell == "bash"  ? bash_script(places)
                             : shell == "zsh" ? zsh_script(places)
                                              : fish_script(places);
  std::fputs(script.c_str(), stdout);
  return 0;
}

}  // namespace neutrino::cli
