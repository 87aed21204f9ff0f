// What an engine's step costs beside the model's computation: sampling, and what lies between two forward passes.
//
//   step_bench [MODEL] [--threads 2] [--batch 1,8,32] [--text FILE] [--context 128] [--steps 64] [--isa avx2]
//
// For each batch and way of sampling: the whole step, its forward pass, sampling and the rest, each the tenth percentile of all
// steps; the ways alternate, so that a slow moment of the machine spoils none alone. Before that: what it costs to start the
// threads on something and to wait for them, and the sampling of random rows of a large vocabulary.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <map>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/metrics.h"
#include "base/random.h"
#include "compute/testing/forwarding_backend.h"
#include "engine/batch_sampler.h"
#include "engine/engine.h"
#include "engine/testing/loaded_model.h"
#include "tokenizer/tokenizer.h"

namespace neutrino {
namespace {

struct Options {
  std::string model, text_path = "tests/golden/text.txt";
  compute::BackendOptions backend{.threads = 2};
  std::vector<int64_t> batch{1, 8, 32};
  std::vector<int32_t> text = {};  // tokens that prompts are cut from
  int64_t context = 128, steps = 64, rounds = 3, vocabulary = 262144;
};

constexpr int64_t kPromptSteps = 500;  // at most, until all sequences decode

const SystemClock system_clock;

// Adds up what is spent in the operations that an engine itself calls: sampling.
class TimedBackend final : public compute::testing::ForwardingBackend {
 public:
  explicit TimedBackend(compute::Backend& inner) : ForwardingBackend(inner), timed_(inner) {}
  void parallel_for(int64_t count, void (*fn)(void*, int64_t), void* context) override {
    const int64_t start = system_clock.now_ns();
    timed_.parallel_for(count, fn, context);
    sampling_ns += system_clock.now_ns() - start;
  }
  int64_t sampling_ns = 0;

 private:
  compute::Backend& timed_;
};

class TimedModel final : public models::Model {
 public:
  TimedModel(const models::Model& inner, compute::Backend& backend) : inner_(inner), backend_(backend) {
    config_ = inner.config();
    context_ = inner.context();
  }
  compute::Tensor forward(compute::Backend&, const compute::Batch& batch,
                          compute::KvCache& cache) const override {
    const int64_t start = system_clock.now_ns();
    const compute::Tensor logits = inner_.forward(backend_, batch, cache);
    forward_ns += system_clock.now_ns() - start;
    return logits;
  }
  int64_t scratch_bytes(int64_t rows, int64_t outputs) const override {
    return inner_.scratch_bytes(rows, outputs);
  }
  int64_t weight_bytes() const override { return inner_.weight_bytes(); }
  compute::KvCacheShape kv_cache_shape(int64_t blocks, int64_t slots) const override {
    return inner_.kv_cache_shape(blocks, slots);
  }
  mutable int64_t forward_ns = 0;

 private:
  const models::Model& inner_;
  compute::Backend& backend_;
};

const std::map<std::string, chat::SamplingParameters>& ways() {
  static const std::map<std::string, chat::SamplingParameters> all = {
      {"greedy", {.temperature = 0}},
      {"temperature", {.temperature = 1}},
      {"top_p 0.9", {.temperature = 1, .top_p = 0.9}},
      {"penalties, top_p", {.temperature = 1, .top_p = 0.9, .repetition_penalty = 1.1}},
      {"logprobs 5", {.temperature = 0, .logprobs = 5}},
  };
  return all;
}

// Neighbours on the machine only ever add: what a tenth of the samples stays below.
double low(std::vector<double> values) {
  const auto tenth = values.begin() + static_cast<ptrdiff_t>(values.size() / 10);
  std::ranges::nth_element(values, tenth);
  return *tenth;
}

struct Times {
  std::vector<double> step, forward, sampling, rest;  // microseconds
};

// One step, split into what it is made of (microseconds).
struct StepTimes {
  double step = 0, forward = 0, sampling = 0;
  double rest() const { return step - forward - sampling; }
};

StepTimes timed_step(engine::Engine& engine, TimedModel& model, TimedBackend& backend) {
  model.forward_ns = backend.sampling_ns = 0;
  const int64_t start = system_clock.now_ns();
  engine.step();
  return {.step = static_cast<double>(system_clock.now_ns() - start) * 1e-3,
          .forward = static_cast<double>(model.forward_ns) * 1e-3,
          .sampling = static_cast<double>(backend.sampling_ns) * 1e-3};
}

// The step that takes in `count` sequences whose prompts, but for their last block, are in the prefix cache.
void bench_admission(const models::Model& model, compute::Backend& backend, const Options& options,
                     int64_t count) {
  constexpr int64_t kPrompt = 2048;
  TimedBackend timed_backend(backend);
  TimedModel timed_model(model, backend);
  Metrics metrics;
  engine::Engine engine(timed_model, timed_backend,
                        {.max_sequences = count, .queued_tokens_max = count * kPrompt}, metrics,
                        system_clock);
  const auto submit = [&] {
    chat::GenerationRequest request{.id = "", .prompt = {}, .sampling = {.max_tokens = 2}};
    request.prompt.assign(options.text.begin(), options.text.begin() + kPrompt);
    return engine.submit(std::move(request));
  };
  std::vector<double> rests;
  for (int64_t round = 0; round < 8; ++round) {
    for (int64_t i = 0; i < (round == 0 ? 1 : count); ++i) submit();
    const StepTimes times = timed_step(engine, timed_model, timed_backend);
    if (round > 0) rests.push_back(times.rest());
    while (engine.step()) {
    }
  }
  fmt::print("a step that takes in {} sequences of {} cached tokens: {:.1f} us beside forward and sampling\n",
             count, kPrompt, low(rests));
}

void measure_steps(const models::Model& model, compute::Backend& backend, const Options& options,
                   int64_t batch, const chat::SamplingParameters& way, Times& times) {
  TimedBackend timed_backend(backend);
  TimedModel timed_model(model, backend);
  Metrics metrics;
  engine::Engine engine(timed_model, timed_backend, {.max_sequences = batch}, metrics, system_clock);
  Random random(1);
  std::vector<engine::SequencePtr> sequences;
  for (int64_t i = 0; i < batch; ++i) {
    chat::GenerationRequest request{.id = std::to_string(i), .prompt = {}, .sampling = way};
    const int64_t from = random.below(std::ssize(options.text) - options.context);
    request.prompt.assign(options.text.begin() + from, options.text.begin() + from + options.context);
    request.sampling.max_tokens = options.steps + kPromptSteps;
    request.sampling.ignore_eos = true;
    request.sampling.seed = static_cast<uint64_t>(i);
    sequences.push_back(engine.submit(std::move(request)));
  }
  const auto all_decode = [&] {
    return std::ranges::all_of(sequences, [](const auto& s) { return s->generated() > 0; });
  };
  while (!all_decode()) engine.step();
  for (int64_t i = 0; i < options.steps; ++i) {
    const StepTimes taken = timed_step(engine, timed_model, timed_backend);
    times.step.push_back(taken.step), times.forward.push_back(taken.forward);
    times.sampling.push_back(taken.sampling), times.rest.push_back(taken.rest());
  }
}

void bench_steps(Options& options) {
  engine::testing::LoadedModel loaded(options.model, options.backend);
  const auto tokenizer = tokenizer::make_tokenizer(loaded.file->vocabulary());
  options.text = tokenizer->encode(read_file(options.text_path, 1 << 20), tokenizer::Special::as_text);
  for (const int64_t count : {1, 32}) bench_admission(*loaded.model, *loaded.backend, options, count);
  for (const int64_t batch : options.batch) {
    std::map<std::string, Times> times;
    for (int64_t round = 0; round < options.rounds; ++round)
      for (const auto& [name, way] : ways())
        measure_steps(*loaded.model, *loaded.backend, options, batch, way, times[name]);
    for (const auto& [name, of] : times) {
      const double step = low(of.step), sampling = low(of.sampling), rest = low(of.rest);
      fmt::print(
          "batch {:3} {:17} step {:8.1f} us  forward {:8.1f}  sampling {:7.1f} ({:4.1f} %)  rest {:6.1f} "
          "({:.2f} %)\n",
          batch, name, step, low(of.forward), sampling, 100 * sampling / step, rest, 100 * rest / step);
    }
  }
}

// Random rows, nearly normal with a spread like a small model's.
std::vector<float> random_row(int64_t vocabulary, uint64_t seed) {
  Random random(seed);
  std::vector<float> row(static_cast<size_t>(vocabulary));
  for (float& logit : row)
    for (int i = 0; i < 6; ++i) logit += static_cast<float>(6 * random.uniform());
  return row;
}

void bench_sampling(compute::Backend& backend, const Options& options) {
  std::vector<std::vector<float>> rows;
  for (uint64_t i = 0; i < 8; ++i) rows.push_back(random_row(options.vocabulary, i));
  engine::BatchSampler sampler(options.vocabulary, std::ssize(rows), backend);
  for (const size_t count : {size_t{1}, rows.size()})
    for (const auto& [name, way] : ways()) {
      std::vector<std::vector<chat::TokenLogprob>> top(count);
      std::vector<engine::SampleRequest> requests;
      const engine::TokenCounts counts(std::vector<int32_t>(1), 1);
      for (size_t i = 0; i < count; ++i) {
        top[i].resize(static_cast<size_t>(way.logprobs.value_or(0)));
        requests.push_back({.logits = rows[i],
                            .parameters = &way,
                            .counts = way.repetition_penalty == 1 ? nullptr : &counts,
                            .logprob = way.logprobs.has_value(),
                            .top = top[i]});
      }
      std::vector<double> times;
      for (int64_t i = 0; i < 60; ++i) {
        for (engine::SampleRequest& request : requests) request.output_position = i;
        const int64_t start = system_clock.now_ns();
        sampler.sample(requests);
        times.push_back(static_cast<double>(system_clock.now_ns() - start) * 1e-3);
      }
      fmt::print("{} of {} tokens, {}: {:.1f} us\n", count, options.vocabulary, name, low(times));
    }
}

void bench_forks(compute::Backend& backend) {
  std::vector<double> times;
  for (int64_t round = 0; round < 200; ++round) {
    const int64_t start = system_clock.now_ns();
    for (int64_t i = 0; i < 100; ++i) {
      std::atomic<int64_t> missing = backend.threads();  // each thread takes one and waits for the others
      backend.parallel_for(
          missing,
          [](void* context, int64_t) {
            auto& count = *static_cast<std::atomic<int64_t>*>(context);
            for (--count; count > 0;) __builtin_ia32_pause();
          },
          &missing);
    }
    times.push_back(static_cast<double>(system_clock.now_ns() - start) * 1e-5);
  }
  fmt::print("a fork of the threads and its join: {:.2f} us\n", low(times));
}

}  // namespace
}  // namespace neutrino

int main(int argc, char** argv) {
  using namespace neutrino;
  Options options;
  CLI::App app("what a step of the engine costs");
  app.add_option("model", options.model);
  app.add_option("--threads", options.backend.threads);
  app.add_option("--isa", options.backend.isa);
  app.add_option("--batch", options.batch)->delimiter(',');
  app.add_option("--context", options.context);
  app.add_option("--text", options.text_path);
  app.add_option("--steps", options.steps);
  app.add_option("--rounds", options.rounds);
  app.add_option("--vocabulary", options.vocabulary);
  CLI11_PARSE(app, argc, argv);
  try {
    const auto backend = compute::make_cpu_backend(options.backend);
    bench_forks(*backend);
    bench_sampling(*backend, options);
    if (!options.model.empty()) bench_steps(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "step_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
