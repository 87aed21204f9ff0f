// neutrino bench MODEL: how fast this machine computes the model, without server and scheduler.
//
// Three kinds of work, as the field measures them: prefill of a prompt into an empty cache, decode of one sequence behind a
// context, and decode of a batch of sequences side by side. Tokens are random (and the same in every run); nothing is sampled.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <vector>

#include "base/clock.h"
#include "base/json.h"
#include "base/random.h"
#include "cli/bench_adapters.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/model_runner.h"
#include "cli/options.h"

namespace neutrino::cli {
namespace {

struct BenchConfig {
  std::string model;
  std::vector<std::string> work{"prefill", "decode", "batch"};
  std::vector<int64_t> prefill{128, 512}, context{128, 512}, batch{8};
  int64_t decode = 64, batch_prompt = 128, batch_decode = 64, chunk = 512, threads = 0, repetitions = 3;
  bool as_json = false, exact = false;
};

struct BenchRow {
  std::string work;                       // "prefill", "decode", "batch"
  int64_t size = 0;                       // prompt tokens, context tokens, sequences
  std::vector<double> tokens_per_second;  // one per repetition
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

class Bench {
 public:
  Bench(const models::Model& model, compute::Backend& backend, const BenchConfig& config)
      : model_(model), backend_(backend), config_(config), random_(1) {}

  // Every row once per round, so that a slow moment of the machine spoils a round and not a row.
  std::vector<BenchRow> run() {
    std::vector<BenchRow> rows;
    for (const std::string& work : config_.work)
      for (const int64_t size : sizes(work)) rows.push_back({work, size, {}});
    for (int64_t round = 0; round < config_.repetitions; ++round)
      for (BenchRow& row : rows) row.tokens_per_second.push_back(measure(row));
    return rows;
  }

 private:
  const std::vector<int64_t>& sizes(const std::string& work) const {
    return work == "prefill" ? config_.prefill : work == "decode" ? config_.context : config_.batch;
  }

  double measure(const BenchRow& row) {
    if (row.work == "prefill") return prefill(row.size);
    if (row.work == "decode") return decode(1, row.size, config_.decode);
    return decode(row.size, config_.batch_prompt, config_.batch_decode);
  }

  std::vector<int32_t> random_tokens(int64_t count) {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = static_cast<int32_t>(random_.below(model_.config().vocab_size));
    return tokens;
  }

  void fill(ModelRunner& runner, int64_t sequence, int64_t count) {
    while (count > 0) {
      const std::vector<int32_t> tokens = random_tokens(std::min(count, config_.chunk));
      count -= static_cast<int64_t>(tokens.size());
      runner.forward(sequence, {&tokens, 1},
                     count == 0 ? ModelRunner::Outputs::last : ModelRunner::Outputs::none);
    }
  }

  double prefill(int64_t size) {
    ModelRunner runner(model_, backend_, 1, size, std::min(size, config_.chunk), 1);
    fill(runner, 0, std::min<int64_t>(size, 16));  // touches code and weights
    runner.clear();
    const int64_t start = clock_.now_ns();
    fill(runner, 0, size);
    return static_cast<double>(size) * 1e9 / static_cast<double>(clock_.now_ns() - start);
  }

  double decode(int64_t sequences, int64_t context, int64_t steps) {
    ModelRunner runner(model_, backend_, sequences, context + steps + 1, std::max(config_.chunk, sequences),
                       sequences);
    for (int64_t i = 0; i < sequences; ++i) fill(runner, i, context);
    std::vector<std::vector<int32_t>> tokens(sequences);
    const auto step = [&] {
      for (auto& one : tokens) one = random_tokens(1);
      runner.forward(0, tokens, ModelRunner::Outputs::last);
    };
    step();
    const int64_t start = clock_.now_ns();
    for (int64_t i = 0; i < steps; ++i) step();
    return static_cast<double>(sequences * steps) * 1e9 / static_cast<double>(clock_.now_ns() - start);
  }

  const models::Model& model_;
  compute::Backend& backend_;
  const BenchConfig& config_;
  Random random_;
  SystemClock clock_;
};

std::string describe(const BenchConfig& config, const BenchRow& row) {
  if (row.work == "prefill") return fmt::format("prefill {}", row.size);
  if (row.work == "decode") return fmt::format("decode {} at context {}", config.decode, row.size);
  return fmt::format("batch of {}: {} + {}", row.size, config.batch_prompt, config.batch_decode);
}

// What a token of context adds to the bytes that a decode step reads.
int64_t kv_bytes_per_position(const BenchConfig& config, const models::Model& model) {
  const auto arithmetic = config.exact ? compute::Arithmetic::float32 : compute::Arithmetic::integer;
  return compute::kv_block_bytes(model.kv_cache_shape(1, 1), arithmetic) / compute::kBlockPositions;
}

void print_json(const BenchConfig& config, const compute::Backend& backend, const models::Model& model,
                const std::vector<BenchRow>& rows) {
  json::array list;
  for (const BenchRow& row : rows)
    list.push_back(json::object{
        {"work", row.work},
        {"size", row.size},
        {"median_tokens_per_second", median(row.tokens_per_second)},
        {"tokens_per_second", json::array(row.tokens_per_second.begin(), row.tokens_per_second.end())}});
  std::puts(to_text(json::object{{"model", config.model},
                                 {"backend", std::string(backend.name())},
                                 {"threads", backend.threads()},
                                 {"exact", config.exact},
                                 {"weight_bytes", model.weight_bytes()},
                                 {"kv_bytes_per_position", kv_bytes_per_position(config, model)},
                                 {"rows", std::move(list)}})
                .c_str());
}

void print_table(const BenchConfig& config, const compute::Backend& backend, const models::Model& model,
                 const std::vector<BenchRow>& rows) {
  std::printf("%s, %s, %lld threads, %.1f MB of weights per token\n\n%-34s %12s %10s %10s\n",
              config.model.c_str(), std::string(backend.name()).c_str(),
              static_cast<long long>(backend.threads()), static_cast<double>(model.weight_bytes()) / 1e6,
              "work", "tokens/s", "min", "max");
  for (const BenchRow& row : rows) {
    const auto [low, high] = std::minmax_element(row.tokens_per_second.begin(), row.tokens_per_second.end());
    std::printf("%-34s %12.1f %10.1f %10.1f\n", describe(config, row).c_str(), median(row.tokens_per_second),
                *low, *high);
  }
}

}  // namespace

int run_bench(int argc, char** argv) {
  BenchConfig config;
  CLI::App app(
      "Measure prefill and decode speed.\nExample: neutrino bench smollm2-135m-instruct --threads 2 "
      "--prefill 512",
      "neutrino bench");
  app.add_option("MODEL", config.model, "a name in the store or a path to a GGUF file")->required();
  app.add_option("--work", config.work, "kinds of work to measure")
      ->delimiter(',')
      ->check(CLI::IsMember({"prefill", "decode", "batch"}))
      ->capture_default_str();
  app.add_option("--prefill", config.prefill, "prompt lengths to prefill")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--context", config.context, "contexts behind which one sequence decodes")
      ->delimiter(',')
      ->capture_default_str();
  app.add_option("--batch", config.batch, "numbers of sequences that decode side by side")
      ->delimiter(',')
      ->capture_default_str();
  const auto count = [&](const char* name, int64_t& value, const char* help) {
    app.add_option(name, value, help)->check(CLI::Range(int64_t{1}, int64_t{1} << 20))->capture_default_str();
  };
  count("--decode", config.decode, "tokens to decode for one sequence");
  count("--batch-prompt", config.batch_prompt, "context of each sequence of a batch");
  count("--batch-decode", config.batch_decode, "tokens to decode per sequence of a batch");
  count("--batch-tokens", config.chunk, "tokens per prefill step");
  count("--repetitions", config.repetitions, "rounds; the median is reported");
  app.add_option("--threads", config.threads, "compute threads (default: one per core)")
      ->check(CLI::Range(1, 1024));
  AdapterBench adapters{.adapters = 0};
  app.add_option(
         "--adapters", adapters.adapters,
         "measure only a batch of so many sequences, each with a random adapter of its own, beside the same "
         "batch without")
      ->check(CLI::Range(1, 1024));
  count("--adapter-rank", adapters.rank, "rank of the random adapters");
  app.add_option("--adapter-targets", adapters.targets, "what they change: all, attention or qv")
      ->check(CLI::IsMember({"all", "attention", "qv"}))
      ->capture_default_str();
  app.add_flag("--exact", config.exact, "float32 arithmetic in the reference order");
  app.add_flag("--json", config.as_json, "print one JSON object");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;

  const weights::OpenModel opened = open_model(config.model);
  const auto backend = compute::make_cpu_backend(
      {.arithmetic = config.exact ? compute::Arithmetic::float32 : compute::Arithmetic::integer,
       .threads = config.threads});
  const auto model = models::load_model(*opened.file, *backend);
  if (adapters.adapters > 0) {
    adapters.as_json = config.as_json;
    adapters.context = config.batch_prompt, adapters.steps = config.batch_decode;
    adapters.rounds = std::max<int64_t>(config.repetitions, 9);
    bench_adapters(*opened.file, *model, *backend, adapters);
    return 0;
  }
  for (const auto* sizes : {&config.prefill, &config.context, &config.batch})
    for (const int64_t size : *sizes)
      if (size < 1 || size + config.decode + 1 > model->context())
        throw make_error(ErrorCode::invalid_argument, "sizes must be 1 to {} for this model, got {}",
                         model->context() - config.decode - 1, size);
  const std::vector<BenchRow> rows = Bench(*model, *backend, config).run();
  config.as_json ? print_json(config, *backend, *model, rows) : print_table(config, *backend, *model, rows);
  return 0;
}

}  // namespace neutrino::cli
