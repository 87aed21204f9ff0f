// neutrino: the table of subcommands. Each is one file in cli/; errors end here, with a message and an exit code.

#include <csignal>
#include <cstdio>
#include <exception>
#include <string_view>

#include "base/error.h"
#include "base/fault.h"
#include "base/log.h"
#include "cli/command.h"

namespace neutrino::cli {
namespace {

constexpr Command kCommands[] = {
    {"serve", "serve a model over the OpenAI-compatible HTTP API", run_serve},
    {"chat", "talk to a model in the terminal", run_chat},
    {"run", "answer one prompt and exit", run_run},
    {"model", "pull, import, list, show, verify and remove models", run_model},
    {"tokenize", "show the tokens of a text", run_tokenize},
    {"bench", "measure prefill and decode speed", run_bench},
    {"eval", "measure how exact the arithmetic is", run_eval},
    {"doctor", "say what this machine can do and what is missing", run_doctor},
    {"keeper", nullptr, run_keeper},
};

void print_help() {
  std::puts("neutrino " NEUTRINO_VERSION
            ": run open-weight models on your own machine.\n\nUsage: neutrino COMMAND [OPTIONS]\n");
  for (const Command& command : kCommands)
    if (command.summary) std::printf("  %-10s %s\n", command.name, command.summary);
  std::puts(
      "\n`neutrino COMMAND --help` explains one. Example:\n  neutrino run smollm2-135m-instruct \"What is a "
      "star?\"");
}

const Command* find_command(std::string_view name) {
  for (const Command& command : kCommands)
    if (name == command.name) return &command;
  return nullptr;
}

int dispatch(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name.empty() || name == "help" || name == "--help" || name == "-h")
    return print_help(), name.empty() ? 2 : 0;
  if (name == "version" || name == "--version") return std::puts("neutrino " NEUTRINO_VERSION), 0;
  const Command* command = find_command(name);
  if (command == nullptr) {
    std::fprintf(stderr, "neutrino: \"%.*s\" is not a command; `neutrino --help` lists them\n",
                 static_cast<int>(name.size()), name.data());
    return 2;
  }
  init_log("info");
  check_fault_environment();
  return command->run(argc - 1, argv + 1);
}

}  // namespace
}  // namespace neutrino::cli

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    return neutrino::cli::dispatch(argc, argv);
  } catch (const neutrino::Error& error) {
    std::fprintf(stderr, "neutrino: %s\n", error.what());
    return neutrino::error_exit_code(error.code());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "neutrino: unexpected error: %s\n", error.what());
    return 1;
  }
}
