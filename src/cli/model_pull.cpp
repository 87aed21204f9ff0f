#include "cli/model_pull.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"
#include "base/memory.h"
#include "cli/load.h"
#include "weights/hub/pull.h"

namespace neutrino::cli {
namespace {

using weights::Manifest;
using weights::ModelName;
using weights::Reference;
using weights::RemoteModel;

// One line that is written over on a terminal; a line for each file and each note elsewhere.
class PullView final : public weights::PullObserver {
 public:
  ~PullView() override { end_line(); }

  void note(std::string_view line) override {
    end_line();
    fmt::print(stderr, "{}\n", line);
    std::fflush(stderr);
  }
  void begin(const std::string& file, int64_t bytes_done, int64_t bytes_total) override {
    end_line();
    file_ = file;
    total_ = bytes_total;
    first_ = last_ = bytes_done;
    start_ = drawn_ = Clock::now();
    if (!is_terminal_)
      fmt::print(stderr, "{}: {}{}\n", file, bytes_total < 0 ? "of unknown size" : size_text(bytes_total),
                 bytes_done > 0 ? fmt::format(", {} are there", size_text(bytes_done)) : "");
  }
  void progress(int64_t bytes_done) override {
    if (!is_terminal_) return;
    const auto now = Clock::now();
    if (now - drawn_ < std::chrono::milliseconds(100) && bytes_done != total_) return;
    drawn_ = now;
    draw(bytes_done, std::chrono::duration<double>(now - start_).count());
  }

 private:
  using Clock = std::chrono::steady_clock;

  void draw(int64_t done, double seconds) {
    const double rate = seconds > 0 ? static_cast<double>(done - first_) / seconds : 0;
    std::string line =
        fmt::format("\r{} ", file_.size() > 40 ? "..." + file_.substr(file_.size() - 37) : file_);
    if (total_ > 0) {
      const auto filled = static_cast<size_t>(done * 24 / total_);
      line += fmt::format("[{}{}] {:3} % ", std::string(filled, '#'), std::string(24 - filled, ' '),
                          done * 100 / total_);
    }
    line += fmt::format("{} {}/s", size_text(done), size_text(static_cast<int64_t>(rate)));
    if (total_ > 0 && rate > 0) {
      const auto left = static_cast<int64_t>(static_cast<double>(total_ - done) / rate);
      line += fmt::format(" {}:{:02} left", left / 60, left % 60);
    }
    fmt::print(stderr, "{}\033[K", line);
    std::fflush(stderr);
    open_line_ = true;
  }
  void end_line() {
    if (std::exchange(open_line_, false)) fmt::print(stderr, "\n");
  }

  const bool is_terminal_ = ::isatty(STDERR_FILENO);
  std::string file_;
  int64_t total_ = -1, first_ = 0, last_ = 0;
  Clock::time_point start_, drawn_;
  bool open_line_ = false;
};

weights::PullRequest make_request(const PullOptions& options, const weights::HubSettings& settings) {
  weights::PullRequest request{.reference = weights::parse_reference(options.reference, settings.hub)};
  if (!options.name.empty()) request.name = ModelName::parse(options.name);
  if (!options.revision.empty()) {
    if (!request.reference.revision.empty() && request.reference.kind == Reference::Kind::hub)
      throw make_error(ErrorCode::invalid_argument, "the revision is given twice: {} and {}",
                       request.reference.revision, options.revision);
    request.reference.revision = options.revision;
  }
  request.choice = {.include = options.include, .exclude = options.exclude};
  request.sha256 = options.sha256;
  request.download = {.connections = options.connections, .retries = options.retries};
  if (!options.part_size.empty()) request.download.part_bytes = parse_size("--part-size", options.part_size);
  return request;
}

int64_t bytes_of(const RemoteModel& model) {
  int64_t sum = 0;
  for (const auto& file : model.files) sum += std::max<int64_t>(file.bytes, 0);
  return sum;
}

void print_plan(const RemoteModel& model, const ModelName& name, bool as_json) {
  if (as_json) {
    json::array files;
    for (const auto& file : model.files)
      files.push_back({{"name", file.name}, {"bytes", file.bytes}, {"sha256", file.sha256}});
    const auto terms = weights::license_terms(model.license);
    fmt::print("{}\n", to_text(json::object{{"name", name.text()},
                                            {"source", model.source},
                                            {"license", model.license.id},
                                            {"license_terms", weights::license_terms_name(terms)},
                                            {"gated", model.license.gated},
                                            {"bytes", bytes_of(model)},
                                            {"files", std::move(files)}}));
    return;
  }
  fmt::print("{} from {}, licence {}:\n", name.text(), model.source, model.license.id);
  for (const auto& file : model.files)
    fmt::print("  {:>11}  {}\n", file.bytes < 0 ? "?" : size_text(file.bytes), file.name);
}

int import_path(const PullOptions& options, const Reference& reference) {
  weights::Store store(weights::store_folder());
  weights::ImportOptions import{.name = {}, .source = {}, .progress = progress_bar("importing")};
  if (!options.name.empty()) import.name = ModelName::parse(options.name);
  print_taken(store.import(reference.path, import), options.as_json);
  return 0;
}

}  // namespace

const char* const kPullHelp =
    "download a model into the store; a download that broke off goes on where it was\n"
    "\n"
    "REF is one of\n"
    "  OWNER/NAME[@REVISION][:QUANT]  a repository of the Hugging Face hub (or of HF_ENDPOINT)\n"
    "  https://HOST/.../MODEL.gguf    a file anywhere\n"
    "  oci://HOST/NAME[:TAG]          an artefact of an OCI registry (Ollama, Docker Model Runner)\n"
    "  file:PATH, ./PATH, /PATH       a file or folder here: the same as import\n"
    "Of a repository it takes: with QUANT the GGUF file of that name; else the checkpoint (config.json and "
    "safetensors);\n"
    "else the only GGUF file; else, of several, the one of Q4_K_M.\n"
    "A token (HF_TOKEN, --token-file, or that of `hf auth login`) is sent to the hub's own host only.\n"
    "\n"
    "Examples:\n"
    "  neutrino model pull HuggingFaceTB/SmolLM2-135M-Instruct\n"
    "  neutrino model pull bartowski/SmolLM2-135M-Instruct-GGUF:Q8_0 --name smol\n"
    "  neutrino model pull oci://registry.ollama.ai/library/smollm2:135m";

void add_pull_options(CLI::App& command, PullOptions& options) {
  command.add_option("REF", options.reference, "what to download")->required();
  command.add_option("--name", options.name,
                     "its name in the store (default: the GGUF file's or the repository's)");
  command.add_option("--revision", options.revision, "branch, tag or commit (default: main)");
  command.add_option("--include", options.include, "only files that match this glob (repeatable)")
      ->expected(1)
      ->take_all();
  command.add_option("--exclude", options.exclude, "no file that matches this glob (repeatable)")
      ->expected(1)
      ->take_all();
  command.add_option("--token-file", options.token_file,
                     "a file with the hub's token, or with user:password for oci://");
  command.add_option("--sha256", options.sha256, "what a file at a plain URL must have");
  command.add_option("--connections", options.connections, "requests side by side")
      ->check(CLI::Range(int64_t{1}, int64_t{32}))
      ->capture_default_str();
  command.add_option("--part-size", options.part_size,
                     "bytes of one request, as 16M (default: 8M to 64M by the file's size)");
  command.add_option("--retries", options.retries, "attempts after a failed one, in a row without a byte")
      ->check(CLI::Range(int64_t{0}, int64_t{100}))
      ->capture_default_str();
  command.add_flag("--dry-run", options.dry_run, "say what would be downloaded, and stop");
}

int run_pull(const PullOptions& options) {
  weights::HubSettings settings = weights::HubSettings::from_environment();
  const weights::PullRequest request = make_request(options, settings);
  if (request.reference.kind == Reference::Kind::path) return import_path(options, request.reference);
  if (!options.token_file.empty()) {
    auto& secret = request.reference.kind == Reference::Kind::oci ? settings.oci_credentials : settings.token;
    secret = weights::read_token_file(options.token_file);
  }
  weights::Store store(weights::store_folder());
  PullView view;
  const RemoteModel model = weights::look_up(request, settings, view);
  const ModelName name = weights::name_for(request, model);
  if (options.dry_run) return print_plan(model, name, options.as_json), 0;
  view.note(fmt::format("{}: {} file{}, {}, from {}", name.text(), model.files.size(),
                        model.files.size() == 1 ? "" : "s", size_text(bytes_of(model)), model.source));
  print_taken(weights::pull(store, request, model, view), options.as_json);
  return 0;
}

// ---- what import and pull have in common

std::string count_text(int64_t count) {
  if (count >= 1'000'000'000) return fmt::format("{:.1f}B", static_cast<double>(count) / 1e9);
  if (count >= 1'000'000) return fmt::format("{:.1f}M", static_cast<double>(count) / 1e6);
  return fmt::format("{:.1f}K", static_cast<double>(count) / 1e3);
}

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

void print_taken(const Manifest& manifest, bool as_json) {
  if (as_json)
    fmt::print("{}\n", to_text(to_json(manifest)));
  else
    fmt::print("{} is in the store: {}, {}, {} parameters, {}\n", manifest.name.text(),
               manifest.facts.architecture, manifest.facts.quantization,
               count_text(manifest.facts.parameters), size_text(manifest.bytes));
  if (const std::string notice = weights::license_notice(manifest.facts.license); !notice.empty())
    fmt::print(stderr, "note: {}: {}\n", manifest.name.text(), notice);
}

}  // namespace neutrino::cli
