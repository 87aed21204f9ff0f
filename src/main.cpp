// neutrino: the table of subcommands. Each is one file in cli/; errors end here, with a message and an exit code.

#include <csignal>
#include <cstdio>
#include <exception>
#include <span>
#include <string_view>

#include "base/error.h"
#include "base/fault.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/describe.h"

namespace neutrino::cli {
namespace {

constexpr Command kModelCommands[] = {
    {"serve", "serve a model over the OpenAI-compatible HTTP API", run_serve},
    {"chat", "talk to a model in the terminal", run_chat},
    {"run", "answer one prompt and exit", run_run},
    {"model", "pull, import, list, show, verify and remove models", run_model},
    {"tokenize", "show the tokens of a text", run_tokenize},
    {"bench", "measure prefill and decode speed", run_bench},
    {"eval", "measure how exact the arithmetic is", run_eval},
    {"doctor", "say what this machine can do and what is missing", run_doctor},
    {"gateway", nullptr, run_gateway},
    {"control-plane", nullptr, run_control_plane},
    {"keeper", nullptr, run_keeper},
};

constexpr Command kCloudCommands[] = {
    {"up", "run the cloud on this machine: endpoints, keys, metering", run_up},
    {"down", "end what up started, with its replicas", run_down},
    {"login", "sign in to a control plane", run_login},
    {"logout", "end a sign-in", run_logout},
    {"whoami", "say who is signed in where", run_whoami},
    {"apply", "make what is there equal to what a YAML file says", run_apply},
    {"export", "write what is there as such a file", run_export},
    {"endpoint", "models with a URL: create, list, show, update, scale, ...", run_endpoint},
    {"logs", "what replicas write", run_logs},
    {"events", "what happened", run_events},
    {"key", "API keys: create, list, show, revoke, rm", run_key},
    {"secret", "values for the environment of replicas: set, list, rm", run_secret},
    {"member", "who may use a workspace: add, list, set-role, rm", run_member},
    {"workspace", "tenants: create, list, use, rename, rm", run_workspace},
    {"budget", "what may be spent: set, list, rm", run_budget},
    {"usage", "what was used and what it cost", run_usage},
    {"node", "the machines: list, show", run_node},
    {"backup", "write the cloud's database into a file", run_backup},
    {"restore", "make the cloud's database what it was at a backup", run_restore},
    {"completion", "a script that completes commands in a shell", run_completion},
};

struct CommandGroup {
  const char* title;
  std::span<const Command> commands;
};
constexpr CommandGroup kGroups[] = {{"Models", kModelCommands}, {"The cloud", kCloudCommands}};

void print_help() {
  std::puts("neutrino " NEUTRINO_VERSION
            ": run open-weight models on your own machine.\n\nUsage: neutrino COMMAND [OPTIONS]");
  for (const CommandGroup& group : kGroups) {
    std::printf("\n%s\n", group.title);
    for (const Command& command : group.commands)
      if (command.summary) std::printf("  %-10s %s\n", command.name, command.summary);
  }
  std::puts(
      "\n`neutrino COMMAND --help` explains one. Example:\n  neutrino run smollm2-135m-instruct \"What is a "
      "star?\"");
}

// For the shells' completion: see cli/describe.h.
int print_commands() {
  json::array verbs;
  for (const CommandGroup& group : kGroups)
    for (const Command& command : group.commands)
      if (command.summary) verbs.push_back({{"name", command.name}, {"help", command.summary}});
  return std::puts(to_text(json::object{{"verbs", std::move(verbs)}}).c_str()), 0;
}

const Command* find_command(std::string_view name) {
  for (const CommandGroup& group : kGroups)
    for (const Command& command : group.commands)
      if (name == command.name) return &command;
  return nullptr;
}

int dispatch(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  if (name.empty() || name == "help" || name == "--help" || name == "-h")
    return print_help(), name.empty() ? 2 : 0;
  if (name == "version" || name == "--version") return std::puts("neutrino " NEUTRINO_VERSION), 0;
  if (name == kDescribeFlag) return print_commands();
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
