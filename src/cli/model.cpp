// neutrino model import|list|show|verify|rm: the store of models, from the terminal.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/options.h"
#include "weights/store.h"

namespace neutrino::cli {
namespace {

using weights::Manifest;
using weights::ModelName;
using weights::Store;

struct ModelOptions {
  std::string path, name, source;
  bool as_json = false, template_text = false;
};

// Chat templates as their authors published them. Any other text may be fine, but nobody here has read it.
struct KnownTemplate {
  std::string_view sha256;
  std::string_view name;
};
constexpr KnownTemplate kKnownTemplates[] = {
    {"872be49dbb638044ad01b60388f48d469ff2980e5f0dccdc22ec907db54d0788", "SmolLM2 Instruct"},
};

std::string describe_template(const std::string& sha256) {
  if (sha256.empty()) return "none";
  for (const KnownTemplate& known : kKnownTemplates)
    if (sha256 == known.sha256) return fmt::format("{} (sha256 {})", known.name, sha256);
  return fmt::format(
      "sha256 {}\n               warning: no template that neutrino knows; read it with --template before "
      "you trust it",
      sha256);
}

std::string count_text(int64_t count) {
  if (count >= 1'000'000'000) return fmt::format("{:.1f}B", static_cast<double>(count) / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f}M", static_cast<double>(count) / 1e6);
  return fmt::format("{:.1f}K", static_cast<double>(count) / 1e3);
}

// A line on a terminal that is written over; nothing where nobody looks.
weights::Progress progress_bar(std::string_view action) {
  if (!::isatty(STDERR_FILENO)) return {};
  return [action, last = int64_t{-1}](int64_t done, int64_t total) mutable {
    const int64_t percent = total > 0 ? 100 * done / total : 100;
    if (percent == last) return;
    last = percent;
    const auto filled = static_cast<size_t>(percent * 30 / 100);
    fmt::print(stderr, "\r{} [{}{}] {:3} % of {}{}", action, std::string(filled, '#'),
               std::string(30 - filled, ' '), percent, size_text(total), done >= total ? "\n" : "");
    std::fflush(stderr);
  };
}

void print_json(const json::value& value) { fmt::print("{}\n", to_text(value)); }

void print_manifest(const Manifest& manifest) {
  fmt::print("name           {}\n", manifest.name.text());
  fmt::print("architecture   {}\n", manifest.facts.architecture);
  fmt::print("quantization   {}\n", manifest.facts.quantization);
  fmt::print("parameters     {} ({})\n", count_text(manifest.facts.parameters), manifest.facts.parameters);
  fmt::print("size           {}\n", size_text(manifest.bytes));
  fmt::print("license        {}\n", manifest.facts.license.id);
  fmt::print("chat template  {}\n", describe_template(manifest.facts.template_sha256));
  fmt::print("sha256         {}\n", manifest.digest.hex());
  fmt::print("source         {}\n", manifest.source);
  fmt::print("imported       {}\n", manifest.created);
}

int run_import(const ModelOptions& options) {
  Store store(weights::store_folder());
  weights::ImportOptions import{.name = {}, .source = options.source, .progress = progress_bar("importing")};
  if (!options.name.empty()) import.name = ModelName::parse(options.name);
  const Manifest manifest = store.import(options.path, import);
  if (options.as_json)
    print_json(to_json(manifest));
  else
    fmt::print("{} is in the store: {}, {}, {} parameters, {}\n", manifest.name.text(),
               manifest.facts.architecture, manifest.facts.quantization,
               count_text(manifest.facts.parameters), size_text(manifest.bytes));
  return 0;
}

json::value to_json(const weights::StoreListing& listing) {
  json::array models, broken;
  for (const Manifest& model : listing.models) models.push_back(weights::to_json(model));
  for (const auto& entry : listing.broken) broken.push_back({{"file", entry.file}, {"error", entry.message}});
  return {{"models", std::move(models)}, {"broken", std::move(broken)}};
}

int run_list(const ModelOptions& options) {
  const auto listing = Store(weights::store_folder()).list();
  if (options.as_json) return print_json(to_json(listing)), 0;
  if (!listing.models.empty())
    fmt::print("{:<32} {:<12} {:<8} {:>8} {:>11}  {}\n", "NAME", "ARCHITECTURE", "TYPE", "WEIGHTS", "SIZE",
               "LICENSE");
  for (const Manifest& model : listing.models)
    fmt::print("{:<32} {:<12} {:<8} {:>8} {:>11}  {}\n", model.name.text(), model.facts.architecture,
               model.facts.quantization, count_text(model.facts.parameters), size_text(model.bytes),
               model.facts.license.id);
  for (const auto& entry : listing.broken) fmt::print(stderr, "warning: {}\n", entry.message);
  if (listing.models.empty() && listing.broken.empty())
    fmt::print("the store is empty: `neutrino model import PATH` puts a GGUF file in\n");
  return 0;
}

int run_show(const ModelOptions& options) {
  const Store store(weights::store_folder());
  const ModelName name = ModelName::parse(options.name);
  if (options.template_text) {
    fmt::print("{}\n", store.open(name).file->chat_template().value_or(""));
    return 0;
  }
  const Manifest manifest = store.show(name);
  if (options.as_json)
    print_json(to_json(manifest));
  else
    print_manifest(manifest);
  return 0;
}

int run_verify(const ModelOptions& options) {
  const Store store(weights::store_folder());
  const ModelName name = ModelName::parse(options.name);
  store.verify(name, progress_bar("verifying"));
  if (options.as_json)
    print_json({{"name", name.text()}, {"verified", true}, {"sha256", store.show(name).digest.hex()}});
  else
    fmt::print("{} is whole: its bytes have the SHA-256 that they had when it was imported\n", name.text());
  return 0;
}

int run_remove(const ModelOptions& options) {
  const ModelName name = ModelName::parse(options.name);
  Store(weights::store_folder()).remove(name);
  fmt::print("{} is removed\n", name.text());
  return 0;
}

using Action = int (*)(const ModelOptions&);

CLI::App* add(CLI::App& app, const char* name, const char* help, Action action, Action& chosen) {
  CLI::App* command = app.add_subcommand(name, help);
  command->set_help_flag("-h,--help", "print this help and exit");
  command->callback([&chosen, action] { chosen = action; });
  return command;
}

}  // namespace

int run_model(int argc, char** argv) {
  CLI::App app(fmt::format("The models that neutrino keeps in {}.\n"
                           "Example: neutrino model import ~/Downloads/SmolLM2-135M-Instruct.Q4_1.gguf "
                           "--name smollm2-135m-instruct",
                           weights::store_folder().string()),
               "neutrino model");
  ModelOptions options;
  Action action = nullptr;
  app.require_subcommand(1);

  CLI::App* import =
      add(app, "import",
          "copy a GGUF file into the store\nExample: neutrino model import ./model.gguf --name my-model",
          run_import, action);
  import->add_option("PATH", options.path, "the file")->required();
  import->add_option("--name", options.name,
                     "its name in the store (default: the file's name without .gguf)");
  import->add_option("--source", options.source, "where it comes from, to be noted (default: its path)");
  CLI::App* list =
      add(app, "list", "the models in the store\nExample: neutrino model list --json", run_list, action);
  CLI::App* show =
      add(app, "show", "what is known about a model\nExample: neutrino model show smollm2-135m-instruct",
          run_show, action);
  show->add_flag("--template", options.template_text, "print its chat template instead");
  CLI::App* verify =
      add(app, "verify",
          "read a model and compare its SHA-256\nExample: neutrino model verify smollm2-135m-instruct",
          run_verify, action);
  CLI::App* remove =
      add(app, "rm", "remove a model\nExample: neutrino model rm smollm2-135m-instruct", run_remove, action);
  for (CLI::App* command : {show, verify, remove})
    command->add_option("NAME", options.name, "a name in the store")->required();
  for (CLI::App* command : {import, list, show, verify})
    command->add_flag("--json", options.as_json, "print JSON");

  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  return action(options);
}

}  // namespace neutrino::cli
