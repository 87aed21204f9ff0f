// neutrino model convert|quantize|merge: a model in another format, with other types, or made of several.

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/error.h"
#include "base/memory.h"
#include "cli/load.h"
#include "cli/model_commands.h"
#include "cli/model_pull.h"
#include "weights/adapter.h"
#include "weights/checkpoint_form.h"
#include "weights/convert.h"
#include "weights/merge.h"
#include "weights/safetensors_writer.h"

namespace neutrino::cli {
namespace {

namespace fs = std::filesystem;
using weights::WeightFile;

// What every command that writes a model has.
struct Output {
  std::string path, type;
  int64_t threads = 0;
  bool force = false, as_json = false;
};

void add_output_options(CLI::App& command, Output& output) {
  std::string types;
  for (const auto& mix : weights::quant_mixes()) types += (types.empty() ? "" : ", ") + std::string(mix.name);
  command.add_option("--type", output.type, "type of the weights: " + types + " (default: as they are)");
  command.add_option("--threads", output.threads, "threads (default: one per core)")
      ->check(CLI::Range(1, 1024));
  command.add_flag("--force", output.force, "replace what is there");
  command.add_flag("--json", output.as_json, "print JSON");
}

weights::LineageParent parent_of(const weights::OpenModel& model) {
  return weights::lineage_parent(*model.file, model.name, model.file->path());
}

void prepare(const Output& output) {
  if (!fs::exists(output.path)) return;
  if (!output.force)
    throw make_error(ErrorCode::already_exists, "{} is there already; --force replaces it", output.path);
  if (fs::is_directory(output.path) && !fs::exists(fs::path(output.path) / "config.json"))
    throw make_error(ErrorCode::invalid_argument, "{} is a folder, but no checkpoint: it is not replaced",
                     output.path);
  fs::remove_all(output.path);
}

// To one GGUF file if the path ends in .gguf, else to a checkpoint folder.
int write(const WeightFile& file, const WeightFile& origin, weights::LineageStep lineage,
          const Output& output, std::string_view action) {
  prepare(output);
  const bool gguf = output.path.ends_with(".gguf");
  weights::ConvertOptions options{
      .lineage = std::move(lineage), .threads = output.threads, .progress = progress_bar(action)};
  if (!output.type.empty()) options.mix = &weights::quant_mix_named(output.type);
  if (gguf && origin.format() == "safetensors")
    options.checkpoint_config = to_text(weights::checkpoint_form(origin).config);
  const weights::ConvertReport report = gguf ? weights::convert_to_gguf(file, output.path, options)
                                             : weights::convert_to_safetensors(file, output.path, options);
  if (output.as_json)
    fmt::print("{}\n",
               to_text(json::object{
                   {"path", output.path}, {"bytes", report.bytes}, {"resumed_at", report.resumed_at}}));
  else
    fmt::print("{}: {}{}\n", output.path, size_text(report.bytes),
               report.resumed_at > 0
                   ? fmt::format(", {} of it from an earlier run", size_text(report.resumed_at))
                   : "");
  return 0;
}

struct ConvertConfig {
  std::string model;
  Output output;
};

int run_convert(const ConvertConfig& config) {
  const weights::OpenModel model = open_model(config.model);
  weights::LineageStep lineage{.operation = "convert", .parameters = {}, .parents = {parent_of(model)}};
  lineage.parameters["type"] =
      config.output.type.empty() ? json::value(nullptr) : json::value(config.output.type);
  return write(*model.file, *model.file, std::move(lineage), config.output, "converting");
}

struct MergeConfig {
  std::string method = "linear", base, adapter;
  std::vector<std::string> models;
  std::vector<double> weights;
  double t = 0.5, density = 0.5, scale = 1;
  uint64_t seed = 0;
  Output output;
};

int run_merge_adapter(const MergeConfig& config, weights::DerivedTypes types) {
  if (config.models.size() != 1)
    throw make_error(ErrorCode::invalid_argument, "--adapter is merged into 1 model, got {}",
                     config.models.size());
  const weights::OpenModel model = open_model(config.models[0]);
  const auto merged =
      weights::merge_adapter(*model.file, config.adapter, {.scale = config.scale, .types = types});
  const fs::path adapter = config.adapter;
  weights::LineageStep lineage{.operation = "merge adapter",
                               .parameters = {{"scale", config.scale}, {"type", config.output.type}},
                               .parents = {parent_of(model), weights::adapter_parent(adapter)}};
  return write(*merged, *model.file, std::move(lineage), config.output, "merging");
}

int run_merge_models(const MergeConfig& config, weights::DerivedTypes types) {
  std::vector<weights::OpenModel> opened;
  for (const std::string& name : config.models) opened.push_back(open_model(name));
  std::optional<weights::OpenModel> base;
  if (!config.base.empty()) base = open_model(config.base);
  weights::LineageStep lineage{
      .operation = "merge " + config.method,
      .parameters = {{"weights", json::array(config.weights.begin(), config.weights.end())},
                     {"t", config.t},
                     {"density", config.density},
                     {"scale", config.scale},
                     {"seed", config.seed},
                     {"type", config.output.type}},
      .parents = {}};
  if (base) lineage.parents.push_back(parent_of(*base));
  std::vector<const WeightFile*> files;
  for (const weights::OpenModel& model : opened) {
    files.push_back(model.file.get());
    lineage.parents.push_back(parent_of(model));
  }
  const auto merged = weights::merge_models(base ? base->file.get() : nullptr, files,
                                            {.method = weights::merge_method_named(config.method),
                                             .weights = config.weights,
                                             .t = config.t,
                                             .density = config.density,
                                             .scale = config.scale,
                                             .seed = config.seed,
                                             .types = types});
  return write(*merged, base ? *base->file : *opened[0].file, std::move(lineage), config.output, "merging");
}

int run_merge(const MergeConfig& config) {
  const auto types =
      config.output.type.empty() ? weights::DerivedTypes::as_base : weights::DerivedTypes::float32;
  return config.adapter.empty() ? run_merge_models(config, types) : run_merge_adapter(config, types);
}

}  // namespace

void add_convert(CLI::App& app, std::function<int()>& chosen) {
  const auto add = [&](const char* name, const char* help) {
    const auto config = std::make_shared<ConvertConfig>();
    CLI::App* command = app.add_subcommand(name, help);
    command->set_help_flag("-h,--help", "print this help and exit");
    command->add_option("MODEL", config->model, "a name in the store, a GGUF file or a checkpoint folder")
        ->required();
    command
        ->add_option("OUT", config->output.path,
                     "the file to write if it ends in .gguf, else the checkpoint folder")
        ->required();
    add_output_options(*command, config->output);
    command->callback([&chosen, config] { chosen = [config] { return run_convert(*config); }; });
  };
  add("convert",
      "write a model in another format or with other types\n"
      "Example: neutrino model convert ./SmolLM2-135M-Instruct smollm2.q4_k_m.gguf --type q4_k_m\n"
      "An interrupted conversion goes on where it was when the same command is given again.");
  add("quantize",
      "the same, as it is known for GGUF files\nExample: neutrino model quantize model.f16.gguf "
      "model.q8_0.gguf --type q8_0");
}

void add_merge(CLI::App& app, std::function<int()>& chosen) {
  const auto config = std::make_shared<MergeConfig>();
  CLI::App* command = app.add_subcommand(
      "merge",
      "make one model of several, or of a model and a LoRA adapter\n"
      "Example: neutrino model merge base-model --adapter ./my-lora --out merged.gguf\n"
      "Example: neutrino model merge model-a model-b --method slerp --t 0.3 --out merged.gguf --type q8_0");
  command->set_help_flag("-h,--help", "print this help and exit");
  command->add_option("MODEL", config->models, "the models: names in the store or paths")
      ->required()
      ->expected(1, 64);
  command
      ->add_option("--out", config->output.path,
                   "the file to write if it ends in .gguf, else the checkpoint folder")
      ->required();
  command->add_option("--adapter", config->adapter,
                      "a PEFT folder or a GGUF adapter, merged into the one model");
  command->add_option("--method", config->method, "linear, slerp, ties or dare")->capture_default_str();
  command->add_option("--base", config->base, "what the models were tuned from (ties, dare)");
  command->add_option("--weights", config->weights, "one number a model (default: all 1)")->delimiter(',');
  command->add_option("--t", config->t, "slerp: 0 is the first model, 1 the second")->capture_default_str();
  command->add_option("--density", config->density, "ties, dare: share of each difference that is kept")
      ->capture_default_str();
  command->add_option("--scale", config->scale, "of what an adapter, or the merged differences, add")
      ->capture_default_str();
  command->add_option("--seed", config->seed, "dare: which elements are dropped")->capture_default_str();
  add_output_options(*command, config->output);
  command->callback([&chosen, config] { chosen = [config] { return run_merge(*config); }; });
}

}  // namespace neutrino::cli
