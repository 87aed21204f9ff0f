// neutrino eval exactness MODEL: how far the fast arithmetic is from float32.
//
// Both arithmetics run over the same text, teacher-forced; at every position the Kullback-Leibler divergence of the two
// distributions over the full vocabulary is taken, and whether they agree on the most likely token.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/model_runner.h"
#include "cli/options.h"

namespace neutrino::cli {
namespace {

constexpr char kDefaultText[] =
#include "eval_text.inl"
    ;

constexpr int64_t kWindow = 1024;  // positions per window; the cache starts empty at each
constexpr int64_t kChunk = 64;     // rows per forward pass

struct Exactness {
  std::vector<double> divergence;  // per position, in nats
  int64_t top_1_equal = 0;
};

double log_sum_exp(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return largest + std::log(sum);
}

double kl_divergence(std::span<const float> reference, std::span<const float> other) {
  const double norm_reference = log_sum_exp(reference), norm_other = log_sum_exp(other);
  double sum = 0;
  for (size_t i = 0; i < reference.size(); ++i) {
    const double p = reference[i] - norm_reference, q = other[i] - norm_other;
    sum += std::exp(p) * (p - q);
  }
  return std::max(0.0, sum);
}

// One arithmetic's side of the comparison.
struct Side {
  Side(const weights::WeightFile& file, compute::Arithmetic arithmetic, int64_t threads, int64_t window,
       compute::KvType kv_type)
      : backend(compute::make_cpu_backend({.arithmetic = arithmetic, .threads = threads})),
        model(models::load_model(file, *backend)),
        runner(*model, *backend, 1, window, kChunk, kChunk, kv_type) {}
  std::unique_ptr<compute::Backend> backend;
  std::unique_ptr<models::Model> model;
  ModelRunner runner;
};

void compare_rows(const compute::Tensor& reference, const compute::Tensor& other, Exactness& result) {
  for (int64_t i = 0; i < reference.rows; ++i) {
    const std::span<const float> a(reference.row(i), reference.columns), b(other.row(i), other.columns);
    result.divergence.push_back(kl_divergence(a, b));
    result.top_1_equal +=
        std::max_element(a.begin(), a.end()) - a.begin() == std::max_element(b.begin(), b.end()) - b.begin();
  }
}

Exactness measure(Side& reference, Side& fast, std::span<const int32_t> tokens, int64_t window) {
  Exactness result;
  for (size_t at = 0; at < tokens.size();) {
    if (reference.runner.length(0) == window) reference.runner.clear(), fast.runner.clear();
    const auto count =
        std::min({static_cast<int64_t>(tokens.size() - at), kChunk, window - reference.runner.length(0)});
    const std::vector<int32_t> chunk(tokens.begin() + at, tokens.begin() + at + count);
    const compute::Tensor a = reference.runner.forward(0, {&chunk, 1}, ModelRunner::Outputs::all);
    const compute::Tensor b = fast.runner.forward(0, {&chunk, 1}, ModelRunner::Outputs::all);
    compare_rows(a, b, result);
    at += count;
  }
  return result;
}

void report(const std::string& name, const Side& fast, Exactness result, bool as_json) {
  std::sort(result.divergence.begin(), result.divergence.end());
  const auto count = static_cast<double>(result.divergence.size());
  const double mean = std::accumulate(result.divergence.begin(), result.divergence.end(), 0.0) / count;
  const double p99 = result.divergence[static_cast<size_t>((count - 1) * 0.99)];
  const double top_1 = static_cast<double>(result.top_1_equal) / count;
  if (as_json) {
    std::puts(to_text(json::object{{"model", name},
                                   {"backend", std::string(fast.backend->name())},
                                   {"positions", result.divergence.size()},
                                   {"mean_kl", mean},
                                   {"p99_kl", p99},
                                   {"max_kl", result.divergence.back()},
                                   {"top_1", top_1}})
                  .c_str());
    return;
  }
  std::printf(
      "%s, %s against float32 (--exact), %zu positions\n  mean KL %.3g   p99 %.3g   max %.3g   top-1 %.2f "
      "%%\n",
      name.c_str(), std::string(fast.backend->name()).c_str(), result.divergence.size(), mean, p99,
      result.divergence.back(), top_1 * 100);
}

}  // namespace

int run_eval(int argc, char** argv) {
  CLI::App app("Measure how exact the arithmetic is.\nExample: neutrino eval exactness smollm2-135m-instruct",
               "neutrino eval");
  app.require_subcommand(1);
  CLI::App* exactness =
      app.add_subcommand("exactness", "divergence of the normal arithmetic from --exact on a text");
  std::string name, text_path;
  bool as_json = false;
  int64_t threads = 0;
  exactness->add_option("MODEL", name, "a name in the store or a path to a GGUF file")->required();
  exactness->add_option("--text", text_path,
                        "a UTF-8 text file (default: a built-in one of prose, code and nine languages)");
  exactness->add_option("--threads", threads, "compute threads (default: one per core)")
      ->check(CLI::Range(1, 1024));
  std::string kv_type = EngineConfig().kv_type;
  exactness->add_option("--kv-type", kv_type, "how the normal arithmetic keeps keys and values")
      ->check(CLI::IsMember(kv_type_names()))
      ->capture_default_str();
  exactness->add_flag("--json", as_json, "print one JSON object");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;

  const std::string text = text_path.empty() ? std::string(kDefaultText) : read_file(text_path, 64 << 20);
  const weights::OpenModel opened = open_model(name);
  const auto tokenizer = tokenizer::make_tokenizer(opened.file->vocabulary());
  const auto tokens = tokenizer::encode_prompt(*tokenizer, text, tokenizer::Special::as_text);
  if (tokens.size() < 2) throw Error(ErrorCode::invalid_argument, "the text must have at least 2 tokens");
  const int64_t window = std::min(kWindow, models::read_model_config(*opened.file).max_position_embeddings);
  Side reference(*opened.file, compute::Arithmetic::float32, threads, window, compute::KvType::bf16);
  Side fast(*opened.file, compute::Arithmetic::integer, threads, window, parse_kv_type(kv_type));
  report(opened.name, fast, measure(reference, fast, tokens, window), as_json);
  return 0;
}

}  // namespace neutrino::cli
