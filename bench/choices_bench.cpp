// What several choices of one prompt take, beside its prefill and the decoding of one.
//
//   choices_bench MODEL [--n 8] [--prompt 2048] [--tokens 128] [--rounds 3] [--isa avx2] [--cpu]
//
// A round answers new prompts: one choice with one token (prefill), one choice (prefill and decode), n choices at once. The figure is
// how many times one choice's decoding the n took behind the prefill. On a machine that others use, too, --cpu takes processor time
// (best with one thread).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <vector>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/random.h"
#include "cli/load.h"

namespace neutrino {
namespace {

struct Options {
  std::string model, isa;
  cli::EngineConfig engine;
  int64_t n = 8, prompt = 2048, tokens = 128, rounds = 3;
  bool cpu = false;
};

const SystemClock system_clock;

double seconds(bool cpu) {
  return cpu ? static_cast<double>(std::clock()) / CLOCKS_PER_SEC
             : static_cast<double>(system_clock.now_ns()) * 1e-9;
}

std::vector<int32_t> random_prompt(Random& random, int64_t size, int64_t vocab_size) {
  std::vector<int32_t> prompt;
  for (int64_t i = 0; i < size; ++i) prompt.push_back(static_cast<int32_t>(random.below(vocab_size)));
  return prompt;
}

// Seconds until the last of the choices is done.
double answer(chat::ChatModel& model, const std::vector<int32_t>& prompt, int64_t choices, int64_t tokens,
              bool cpu) {
  const double start = seconds(cpu);
  std::vector<std::unique_ptr<chat::Generation>> generations;
  for (int64_t i = 0; i < choices; ++i)
    generations.push_back(model.generate(
        {.id = "bench",
         .prompt = prompt,
         .sampling = {
             .temperature = 1, .seed = static_cast<uint64_t>(i), .ignore_eos = true, .max_tokens = tokens}}));
  for (const auto& generation : generations)
    while (true) {
      const chat::GenerationChunk chunk = generation->wait();
      if (chunk.error) throw *chunk.error;
      if (chunk.finish_reason) break;
    }
  return seconds(cpu) - start;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

void run(const Options& options) {
  const auto running = cli::start_model(options.model, options.engine);
  chat::ChatModel& model = running->chat_model();
  Random random(1);
  const auto prompt = [&] { return random_prompt(random, options.prompt, model.info().vocab_size); };
  std::vector<double> prefill, one, all, ratio;
  for (int64_t round = -1; round < options.rounds; ++round) {
    const double p = answer(model, prompt(), 1, 1, options.cpu),
                 single = answer(model, prompt(), 1, options.tokens, options.cpu),
                 several = answer(model, prompt(), options.n, options.tokens, options.cpu);
    if (round < 0) continue;  // warms up
    prefill.push_back(p), one.push_back(single), all.push_back(several);
    ratio.push_back((several - p) / (single - p));
  }
  fmt::print("{}: n = {}, {} prompt tokens, {} generated\n", options.model, options.n, options.prompt,
             options.tokens);
  fmt::print("prefill {:.3f} s, one choice {:.3f} s, {} choices {:.3f} s: prefill + {:.2f} x one decode\n",
             median(prefill), median(one), options.n, median(all), median(ratio));
}

}  // namespace
}  // namespace neutrino

int main(int argc, char** argv) {
  using namespace neutrino;
  Options options;
  CLI::App app("what several choices of one prompt take");
  app.add_option("model", options.model)->required();
  const auto count = [&](const char* name, int64_t& value, int64_t most) {
    app.add_option(name, value)->check(CLI::Range(int64_t{1}, most));
  };
  count("--n", options.n, 64);
  count("--prompt", options.prompt, 100000);
  count("--tokens", options.tokens, 4096);
  count("--rounds", options.rounds, 100);
  app.add_option("--isa", options.isa);
  app.add_flag("--cpu", options.cpu);
  cli::add_engine_options(app, options.engine);
  CLI11_PARSE(app, argc, argv);
  if (!options.isa.empty()) ::setenv("NEUTRINO_ISA", options.isa.c_str(), 1);
  spdlog::set_level(spdlog::level::warn);
  try {
    run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "choices_bench: {}\n", error.what());
    return 1;
  }
  return 0;
}
