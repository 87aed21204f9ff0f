// What speculation does to the speed of decoding: two servers' engines in one process, one that guesses and one that does not.
//
//   speculation_bench MODEL [--speculate prompt-lookup:8] [--draft-model MODEL] [--pairs 9] [--threads 2] [--isa avx2] [--cpu]
//
// Each pair answers the same request with both, in turns, and compares the times from the first token to the last; the answers
// must be the same, token by token and in the bits of their log probabilities. Repetitive tasks (a text is copied, a list
// is changed in one place) are greedy; the others (tales) are drawn at temperature 1 with another seed in each pair, so that nothing
// repeats. On a machine that others use, too, --cpu compares processor time (best with one thread). The figure is the median of the pairs' ratios, between bounds that hold it with 95 %.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "cli/load.h"

namespace neutrino {
namespace {

struct Options {
  std::string model, isa;
  cli::EngineConfig engine;
  int64_t pairs = 9, tokens = 192;
  bool cpu = false;
};

struct Task {
  const char* name;
  bool repetitive;
  const char* prompt;
};

constexpr Task kTasks[] = {
    {"copy", true,
     "Repeat this text word for word:\n\nThe harbour of Lindau lies at the eastern end of the lake. On its "
     "left stands "
     "a lion of stone, six metres high, that looks towards the mountains; on its right a lighthouse, the "
     "southernmost "
     "of the country. Between them ships have come in since 1856. In winter the wind from the west drives "
     "the water "
     "over the wall, and the keeper closes the path until the morning. In summer the benches along the wall "
     "are full "
     "until late at night, and the lamps of the ships draw lines on the dark water."},
    {"edit", true,
     "Write this JSON again, with \"city\": \"Bregenz\" in the third record and everything else as it is:\n\n"
     "[{\"id\": 1, \"name\": \"Anna Keller\", \"city\": \"Lindau\", \"active\": true},\n"
     " {\"id\": 2, \"name\": \"Boris Lang\", \"city\": \"Konstanz\", \"active\": false},\n"
     " {\"id\": 3, \"name\": \"Clara Vogt\", \"city\": \"Lindau\", \"active\": true},\n"
     " {\"id\": 4, \"name\": \"David Roth\", \"city\": \"Meersburg\", \"active\": true},\n"
     " {\"id\": 5, \"name\": \"Elena Beck\", \"city\": \"Romanshorn\", \"active\": false}]"},
    {"tale", false,
     "Tell me a tale about a clockmaker who finds a letter in an old clock. Do not stop early."},
    {"advice", false,
     "What should somebody think about before they move to another country? Use your own words."},
};

struct Answer {
  std::vector<uint32_t> bits;  // of tokens and their log probabilities
  double decode_ms = 0;
};

double cpu_ms() { return static_cast<double>(std::clock()) * 1e3 / CLOCKS_PER_SEC; }

Answer answer(chat::ChatModel& model, const Task& task, uint64_t seed, const Options& options) {
  const chat::Conversation conversation{.messages = {{.role = "user", .content = task.prompt}}};
  const auto generation = model.generate({.id = "bench",
                                          .prompt = model.tokenize(model.render(conversation), false, true),
                                          .sampling = {.temperature = task.repetitive ? 0.0 : 1.0,
                                                       .seed = seed,
                                                       .ignore_eos = !task.repetitive,
                                                       .max_tokens = options.tokens,
                                                       .logprobs = 0}});
  Answer answer;
  std::optional<double> start_ms;  // of processor time, at the first token
  for (;;) {
    const chat::GenerationChunk chunk = generation->wait();
    for (const chat::GeneratedToken& token : chunk.tokens) {
      answer.bits.push_back(static_cast<uint32_t>(token.token));
      answer.bits.push_back(std::bit_cast<uint32_t>(token.logprob));
    }
    if (!start_ms) start_ms = cpu_ms();
    if (!chunk.finish_reason) continue;
    if (chunk.error) throw *chunk.error;
    answer.decode_ms = options.cpu ? cpu_ms() - *start_ms : chunk.timings.decode_ms;
    return answer;
  }
}

// How often a fair coin shows heads at most `most` times in n throws.
double at_most(int64_t most, int64_t n) {
  double sum = 0, term = std::pow(0.5, static_cast<double>(n));
  for (int64_t k = 0; k <= most; ++k) {
    sum += term;
    term *= static_cast<double>(n - k) / static_cast<double>(k + 1);
  }
  return sum;
}

struct Median {
  double low, middle, high;
};

// The median, and the order statistics between which it lies with 95 %, whatever the distribution.
Median median_of(std::vector<double> values) {
  std::ranges::sort(values);
  const auto n = std::ssize(values);
  int64_t cut = 0;
  while (at_most(cut, n) <= 0.025) ++cut;
  const auto at = [&](int64_t i) { return values[static_cast<size_t>(i)]; };
  return {at(std::max<int64_t>(cut - 1, 0)), n % 2 == 1 ? at(n / 2) : (at(n / 2 - 1) + at(n / 2)) / 2,
          at(std::min(n - cut, n - 1))};
}

int run(const Options& options) {
  cli::EngineConfig plain = options.engine;
  plain.speculate = "off";
  const auto guessing = cli::start_model(options.model, options.engine);
  const auto other = cli::start_model(options.model, plain);
  int64_t different = 0;
  fmt::print("{}: {} pairs of {} tokens, --speculate {}\n", options.model, options.pairs, options.tokens,
             options.engine.speculate);
  fmt::print("{:<10}{:>8}{:>14}{:>14}{:>10}{:>18}{:>10}\n", "task", "tokens", "ms without", "ms with",
             "ratio", "95 % bounds", "same");
  for (const Task& task : kTasks) {
    std::vector<double> ratios, with_ms, without_ms;
    size_t tokens = 0;
    int64_t same = 0;
    for (int64_t pair = -1; pair < options.pairs; ++pair) {  // the first one warms up
      Answer with, without;
      const auto seed = static_cast<uint64_t>(pair + 100);
      if (pair % 2 == 0) with = answer(guessing->chat_model(), task, seed, options);
      without = answer(other->chat_model(), task, seed, options);
      if (pair % 2 != 0) with = answer(guessing->chat_model(), task, seed, options);
      if (pair < 0) continue;
      same += with.bits == without.bits;
      tokens = std::max(tokens, with.bits.size() / 2);
      ratios.push_back(without.decode_ms / with.decode_ms);
      with_ms.push_back(with.decode_ms);
      without_ms.push_back(without.decode_ms);
    }
    const Median ratio = median_of(ratios);
    different += options.pairs - same;
    fmt::print("{:<10}{:>8}{:>14.1f}{:>14.1f}{:>10.3f}{:>18}{:>10}\n", task.name, tokens,
               median_of(without_ms).middle, median_of(with_ms).middle, ratio.middle,
               fmt::format("{:.3f} to {:.3f}", ratio.low, ratio.high),
               fmt::format("{}/{}", same, options.pairs));
    std::fflush(stdout);
  }
  return different == 0 ? 0 : 1;
}

}  // namespace
}  // namespace neutrino

int main(int argc, char** argv) {
  using namespace neutrino;
  Options options;
  options.engine.speculate = "prompt-lookup";
  CLI::App app("the speed of decoding with and without speculation");
  app.add_option("model", options.model)->required();
  app.add_option("--pairs", options.pairs)->check(CLI::Range(int64_t{9}, int64_t{1000}));
  app.add_option("--tokens", options.tokens)->check(CLI::Range(int64_t{16}, int64_t{4096}));
  app.add_option("--isa", options.isa);
  app.add_flag("--cpu", options.cpu);
  cli::add_engine_options(app, options.engine);
  CLI11_PARSE(app, argc, argv);
  if (!options.isa.empty()) ::setenv("NEUTRINO_ISA", options.isa.c_str(), 1);
  spdlog::set_level(spdlog::level::warn);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "speculation_bench: {}\n", error.what());
    return 1;
  }
}
