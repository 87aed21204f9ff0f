// What constraints cost: a mask, and decoding with a grammar beside decoding without one.
//
//   grammar_bench MODEL SCHEMAS [--walks 200] [--pairs 9] [--batch 1,8] [--tokens 128] [--threads 2]
//
// MODEL: a GGUF file. SCHEMAS: a JSON array of schemas. Masks: random walks through each schema's grammar over the model's
// vocabulary; every mask is timed, and what a consumed token costs (with the forced tokens behind it). Decoding: the same number
// of tokens from the engine with and without a grammar, in turns; the ratio of each pair, their median, and a 95 % interval of
// the median (order statistics).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <string>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/metrics.h"
#include "base/random.h"
#include "chat/grammar_tokens.h"
#include "engine/engine.h"
#include "engine/testing/loaded_model.h"
#include "run_main.h"
#include "tokenizer/tokenizer.h"

namespace neutrino {
namespace {

struct Options {
  std::string model, schemas;
  compute::BackendOptions backend{.threads = 2};
  std::vector<int64_t> batch{1, 8};
  int64_t walks = 200, pairs = 9, tokens = 128;
};

const SystemClock system_clock;
constexpr int64_t kWalkTokens = 400;

// An answer so long that it does not end before the measurement does; names and texts are free, the rest is forced.
constexpr const char* kLongAnswer = R"({"type":"array","minItems":500,"items":{"type":"object","properties":{
  "name":{"type":"string","minLength":3,"maxLength":24},"age":{"type":"integer","minimum":0,"maximum":120},
  "tags":{"type":"array","items":{"type":"string","maxLength":12},"minItems":1,"maxItems":4}},
  "required":["name","age","tags"],"additionalProperties":false}})";

double percentile(std::vector<double> values, double part) {
  std::ranges::sort(values);
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

double microseconds_since(int64_t start_ns) {
  return static_cast<double>(system_clock.now_ns() - start_ns) * 1e-3;
}

int32_t random_token(std::span<const uint64_t> mask, Random& random) {
  std::vector<int32_t> allowed;
  for (size_t word = 0; word < mask.size(); ++word)
    for (int bit = 0; bit < 64; ++bit)
      if (mask[word] >> bit & 1) allowed.push_back(static_cast<int32_t>(word * 64) + bit);
  return allowed[static_cast<size_t>(random.below(std::ssize(allowed)))];
}

struct Costs {
  std::vector<double> mask_us = {}, token_us = {};
  int64_t tokens = 0, forced = 0;
};

void walk(const text::Grammar& grammar, Random& random, Costs& costs) {
  text::GrammarMatcher matcher(grammar);
  std::vector<uint64_t> mask(static_cast<size_t>(grammar.mask_words()));
  std::vector<int32_t> forced(64);
  for (int64_t i = 0; i < kWalkTokens && !matcher.is_complete(); ++i) {
    const int64_t start = system_clock.now_ns();
    check(matcher.fill_mask(mask), "a walk came to a dead end");
    costs.mask_us.push_back(microseconds_since(start));
    const int32_t token = random_token(mask, random);
    const int64_t chosen = system_clock.now_ns();
    check(matcher.consume(token), "an allowed token was refused");
    const int64_t more = matcher.take_forced(forced);
    costs.token_us.push_back(microseconds_since(chosen));
    costs.tokens += 1 + more;
    costs.forced += more;
  }
}

void measure_masks(const Options& options, const tokenizer::Tokenizer& tokenizer) {
  const int64_t start = system_clock.now_ns();
  const std::vector<int32_t> ends(tokenizer.stop_tokens().begin(), tokenizer.stop_tokens().end());
  const text::GrammarVocabulary vocabulary(chat::grammar_tokens(tokenizer, tokenizer.size(), ends));
  fmt::print("vocabulary of {} tokens: {:.0f} ms\n", vocabulary.size(), microseconds_since(start) * 1e-3);
  Costs costs;
  std::vector<double> compile_ms;
  Random random(7);
  const json::array schemas = parse_json(read_file(options.schemas, 1 << 20)).as_array();
  for (const json::value& schema : schemas) {
    const int64_t begin = system_clock.now_ns();
    const text::Grammar grammar(vocabulary,
                                {.kind = text::GrammarKind::json_schema, .text = to_text(schema)});
    compile_ms.push_back(microseconds_since(begin) * 1e-3);
    for (int64_t i = 0; i * std::ssize(schemas) < options.walks; ++i) walk(grammar, random, costs);
  }
  fmt::print("compile: median {:.2f} ms, slowest {:.2f} ms\n", percentile(compile_ms, 0.5),
             percentile(compile_ms, 1));
  fmt::print("masks {}: p50 {:.1f} us, p99 {:.1f} us, slowest {:.1f} us\n", costs.mask_us.size(),
             percentile(costs.mask_us, 0.5), percentile(costs.mask_us, 0.99), percentile(costs.mask_us, 1));
  fmt::print(
      "tokens {}, {} of them forced; a chosen one with those forced behind it: p50 {:.1f} us, p99 {:.1f} "
      "us\n",
      costs.tokens, costs.forced, percentile(costs.token_us, 0.5), percentile(costs.token_us, 0.99));
}

// Tokens a second of `batch` sequences, from the first token of all of them on.
double decode(engine::Engine& engine, const Options& options, int64_t batch,
              const std::shared_ptr<const text::Grammar>& grammar, const std::vector<int32_t>& prompt) {
  std::vector<engine::SequencePtr> sequences;
  for (int64_t i = 0; i < batch; ++i)
    sequences.push_back(engine.submit(
        {.id = std::to_string(i),
         .prompt = prompt,
         .sampling = {.seed = static_cast<uint64_t>(i), .ignore_eos = true, .max_tokens = options.tokens},
         .grammar = grammar}));
  const auto count = [&] {
    int64_t tokens = 0, begun = 0;
    for (const auto& sequence : sequences)
      tokens += sequence->stream.size(), begun += sequence->stream.size() > 0 ? 1 : 0;
    return std::pair(tokens, begun == batch);
  };
  while (!count().second && engine.step()) {
  }
  const int64_t first = count().first, start = system_clock.now_ns();
  while (engine.step()) {
  }
  return static_cast<double>(count().first - first) / microseconds_since(start) * 1e6;
}

void measure_decoding(const Options& options, const engine::testing::LoadedModel& loaded,
                      const tokenizer::Tokenizer& tokenizer) {
  Metrics metrics;
  const std::vector<int32_t> ends(tokenizer.stop_tokens().begin(), tokenizer.stop_tokens().end());
  engine::Engine engine(*loaded.model, *loaded.backend, {.max_sequences = 8, .end_tokens = ends}, metrics,
                        system_clock);
  const text::GrammarVocabulary vocabulary(
      chat::grammar_tokens(tokenizer, engine.options().vocab_size, ends));
  const auto grammar = std::make_shared<const text::Grammar>(
      vocabulary, text::GrammarSpec{.kind = text::GrammarKind::json_schema, .text = kLongAnswer});
  const std::vector<int32_t> prompt =
      tokenizer.encode("A list of people, as JSON:\n", tokenizer::Special::as_text);
  for (const int64_t batch : options.batch) {
    std::vector<double> ratios;
    decode(engine, options, batch, grammar, prompt);
    double free = 0;
    for (int64_t i = 0; i < options.pairs; ++i) {
      const bool free_first = i % 2 == 0;
      if (free_first) free = decode(engine, options, batch, nullptr, prompt);
      const double constrained = decode(engine, options, batch, grammar, prompt);
      if (!free_first) free = decode(engine, options, batch, nullptr, prompt);
      ratios.push_back(constrained / free);
    }
    // The ranks between which the median lies with 95 %: binomial, for few pairs all but the outermost.
    std::ranges::sort(ratios);
    const double n = static_cast<double>(ratios.size());
    const auto low = static_cast<size_t>(std::max(0.0, std::floor(n / 2 - 0.98 * std::sqrt(n))));
    fmt::print(
        "batch {}: constrained / free, {} pairs: median {:.3f} [{:.3f}, {:.3f}], free {:.0f} tokens/s\n",
        batch, ratios.size(), percentile(ratios, 0.5), ratios[low], ratios[ratios.size() - 1 - low], free);
  }
}

int run(int argc, char** argv) {
  Options options;
  CLI::App app("What constraints cost.");
  app.add_option("MODEL", options.model, "a GGUF file")->required();
  app.add_option("SCHEMAS", options.schemas, "a JSON array of schemas")->required();
  app.add_option("--walks", options.walks, "random walks in all");
  app.add_option("--pairs", options.pairs, "pairs of runs; 0: masks alone");
  app.add_option("--batch", options.batch)->delimiter(',');
  app.add_option("--tokens", options.tokens, "of each sequence");
  app.add_option("--threads", options.backend.threads);
  CLI11_PARSE(app, argc, argv);
  const engine::testing::LoadedModel loaded(options.model, options.backend);
  const auto tokenizer = tokenizer::make_tokenizer(loaded.file->vocabulary());
  measure_masks(options, *tokenizer);
  if (options.pairs > 0) measure_decoding(options, loaded, *tokenizer);
  return 0;
}

}  // namespace
}  // namespace neutrino

int main(int argc, char** argv) { return neutrino::run_main(neutrino::run, argc, argv); }
