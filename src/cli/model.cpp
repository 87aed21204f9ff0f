// neutrino model pull|import|list|show|verify|rm|convert|quantize|merge: models, from the terminal.

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"
#include "base/limits.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/model_commands.h"
#include "cli/model_details.h"
#include "cli/model_pull.h"
#include "cli/options.h"
#include "weights/hub/pull.h"
#include "weights/store.h"

namespace neutrino::cli {
namespace {

using weights::Manifest;
using weights::ModelName;
using weights::Store;

struct ModelOptions {
  std::string path, name, source;
  bool as_json = false, template_text = false, partial = false;
  PullOptions pull;
  DetailOptions details;
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

std::string describe_license(const weights::License& license) {
  const std::string notice = weights::license_notice(license);
  const std::string what =
      license.name.empty() ? license.id : fmt::format("{} ({})", license.id, license.name);
  return notice.empty() ? what : fmt::format("{}\n               note: {}", what, notice);
}

// In a table: "llama3.2 (conditional)".
std::string short_license(const weights::License& license) {
  const auto terms = weights::license_terms(license);
  if (terms == weights::LicenseTerms::open || license.id == "unknown") return license.id;
  const std::string& what = license.id == "other" && !license.name.empty() ? license.name : license.id;
  return fmt::format("{} ({})", what, weights::license_terms_name(terms));
}

void print_json(const json::value& value) { fmt::print("{}\n", to_text(value)); }

void print_facts(const weights::ModelFacts& facts) {
  fmt::print("architecture   {}\n", facts.architecture);
  fmt::print("quantization   {}\n", facts.quantization);
  fmt::print("parameters     {} ({})\n", count_text(facts.parameters), facts.parameters);
  fmt::print("license        {}\n", describe_license(facts.license));
  fmt::print("chat template  {}\n", describe_template(facts.template_sha256));
}

void print_manifest(const Manifest& manifest) {
  fmt::print("name           {}\n", manifest.name.text());
  print_facts(manifest.facts);
  fmt::print("size           {}\n", size_text(manifest.bytes));
  fmt::print("sha256         {}\n", manifest.digest.hex());
  fmt::print("source         {}\n", manifest.source);
  fmt::print("imported       {}\n", manifest.created);
}

int run_import(const ModelOptions& options) {
  Store store(weights::store_folder());
  weights::ImportOptions import{.name = {}, .source = options.source, .progress = progress_bar("importing")};
  if (!options.name.empty()) import.name = ModelName::parse(options.name);
  print_taken(store.import(options.path, import), options.as_json);
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
               short_license(model.facts.license));
  for (const auto& entry : listing.broken) fmt::print(stderr, "warning: {}\n", entry.message);
  const auto unfinished = weights::unfinished_downloads(Store(weights::store_folder()));
  if (unfinished.files > 0)
    fmt::print(stderr,
               "note: {} of unfinished downloads are kept: the same `neutrino model pull` goes on with them, "
               "`neutrino model rm --partial` removes them\n",
               size_text(unfinished.bytes));
  if (listing.models.empty() && listing.broken.empty())
    fmt::print(
        "the store is empty: `neutrino model pull REF` or `neutrino model import PATH` puts a model in\n");
  return 0;
}

int run_pull_command(const ModelOptions& options) {
  PullOptions pull = options.pull;
  pull.as_json = options.as_json;
  return run_pull(pull);
}

int run_show(const ModelOptions& options) {
  const weights::OpenModel model = open_model(options.name);
  if (options.template_text) {
    fmt::print("{}\n", model.file->chat_template().value_or(""));
    return 0;
  }
  const json::object details = model_details(*model.file, options.details);
  const std::string path = model.file->path().string();
  if (options.as_json) {
    json::object all = model.manifest ? to_json(*model.manifest) : to_json(model.facts);
    if (!model.manifest) all["path"] = path;
    all["details"] = details;
    print_json(all);
    return 0;
  }
  if (model.manifest) {
    print_manifest(*model.manifest);
  } else {
    fmt::print("path           {}\n", path);
    print_facts(model.facts);
  }
  print_details(details);
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

int remove_partial() {
  const auto removed = weights::remove_unfinished_downloads(Store(weights::store_folder()));
  fmt::print("{} of unfinished downloads are removed\n", size_text(removed.bytes));
  return 0;
}

int run_remove(const ModelOptions& options) {
  if (options.name.empty() != options.partial)
    throw make_error(ErrorCode::invalid_argument, "rm needs a NAME, or --partial alone");
  if (options.partial) return remove_partial();
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
                           "Example: neutrino model pull HuggingFaceTB/SmolLM2-135M-Instruct --name smol",
                           weights::store_folder().string()),
               "neutrino model");
  ModelOptions options;
  Action action = nullptr;
  app.require_subcommand(1);

  CLI::App* pull = add(app, "pull", kPullHelp, run_pull_command, action);
  add_pull_options(*pull, options.pull);
  CLI::App* import = add(app, "import",
                         "copy a GGUF file (of a split one all parts) or a checkpoint folder into the store\n"
                         "Example: neutrino model import ./model.gguf --name my-model",
                         run_import, action);
  import->add_option("PATH", options.path, "the file or folder")->required();
  import->add_option("--name", options.name,
                     "its name in the store (default: the file's name without .gguf, or the folder's)");
  import->add_option("--source", options.source, "where it comes from, to be noted (default: its path)");
  CLI::App* list =
      add(app, "list", "the models in the store\nExample: neutrino model list --json", run_list, action);
  CLI::App* show = add(app, "show",
                       "what is known about a model\nExample: neutrino model show smollm2-135m-instruct "
                       "--context 4096 --batch 8",
                       run_show, action);
  show->add_flag("--template", options.template_text, "print its chat template instead");
  show->add_option("--context", options.details.context,
                   "tokens a sequence, for the memory it takes (default: as trained)")
      ->check(CLI::Range(int64_t{1}, limits::kContextTokens));
  show->add_option("--batch", options.details.batch, "sequences side by side, for the memory they take")
      ->check(CLI::Range(int64_t{1}, limits::kSequencesMax))
      ->capture_default_str();
  show->add_option("--kv-type", options.details.kv_type, "how keys and values are kept")
      ->check(CLI::IsMember(kv_type_names()))
      ->capture_default_str();
  CLI::App* verify =
      add(app, "verify",
          "read a model and compare its SHA-256\nExample: neutrino model verify smollm2-135m-instruct",
          run_verify, action);
  CLI::App* remove =
      add(app, "rm", "remove a model\nExample: neutrino model rm smollm2-135m-instruct", run_remove, action);
  show->add_option("MODEL", options.name, "a name in the store or a path")->required();
  verify->add_option("NAME", options.name, "a name in the store")->required();
  remove->add_option("NAME", options.name, "a name in the store");
  remove->add_flag("--partial", options.partial, "remove what unfinished downloads keep instead");
  for (CLI::App* command : {pull, import, list, show, verify})
    command->add_flag("--json", options.as_json, "print JSON");

  std::function<int()> other;
  add_convert(app, other);
  add_merge(app, other);
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  return other ? other() : action(options);
}

}  // namespace neutrino::cli
