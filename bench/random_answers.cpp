// Answers of a model that knows nothing: random logits, drawn under the grammar of a JSON schema, through the engine.
//
//   random_answers SCHEMAS [--count 1000] [--seed 1] [--free]
//
// SCHEMAS: a JSON array of schemas whose values are bounded. Prints one JSON object a line: {"schema": index, "text", "finish"}.
// Whoever reads them checks that each text is valid (tests/e2e/test_constraints.py). --free leaves the grammar out, so that the
// check can be seen to fail.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "chat/testing/list_tokenizer.h"
#include "engine/local_chat_model.h"
#include "engine/testing/fake_model.h"
#include "run_main.h"

namespace neutrino {
namespace {

constexpr int64_t kContext = 4096, kTokensMax = 4000, kBatch = 16;

// All bytes, some longer tokens, one end token.
chat::testing::ListTokenizer make_tokenizer() {
  std::vector<std::string> tokens;
  for (int byte = 0; byte < 256; ++byte) tokens.emplace_back(1, static_cast<char>(byte));
  for (const char* word : {"\":",  "\",\"", "{\"",  "\"}", "\": \"", "  ", "    ", "\n  ", "true", "false",
                           "null", "the",   "name", "é",   "12",     "00", "\\n",  "\\\"", "},{",  "[]"})
    tokens.emplace_back(word);
  tokens.emplace_back("<|end|>");
  return chat::testing::ListTokenizer(std::move(tokens));
}

class Answers {
 public:
  Answers()
      : end_(tokenizer_.size() - 1),
        model_(tokenizer_.size(), kContext),
        engine_(model_, backend_,
                {.max_sequences = kBatch, .kv_blocks = kContext / 32 * 4, .end_tokens = {end_}}, metrics_,
                clock_),
        chat_(engine_, tokenizer_, nullptr, {}) {
    engine_.start();
  }

  std::shared_ptr<const text::Grammar> compile(const json::value& schema) {
    return chat_.compile_grammar({.kind = text::GrammarKind::json_schema, .text = to_text(schema)});
  }

  std::unique_ptr<chat::Generation> begin(std::shared_ptr<const text::Grammar> grammar, uint64_t seed) {
    return chat_.generate(
        {.id = std::to_string(seed),
         .prompt = {static_cast<int32_t>(seed % 256), static_cast<int32_t>(seed / 256 % 256)},
         .sampling = {.seed = seed, .max_tokens = kTokensMax},
         .grammar = std::move(grammar)});
  }

 private:
  const chat::testing::ListTokenizer tokenizer_ = make_tokenizer();
  const int32_t end_;
  const engine::testing::FakeModel model_;
  engine::testing::FakeBackend backend_;
  Metrics metrics_;
  SystemClock clock_;
  engine::Engine engine_;
  engine::LocalChatModel chat_;
};

void print_answer(chat::Generation& generation, size_t schema) {
  std::string text;
  for (;;) {
    const chat::GenerationChunk chunk = generation.wait();
    text += chunk.text;
    if (!chunk.finish_reason) continue;
    if (chunk.error) throw *chunk.error;
    const bool stop = *chunk.finish_reason == chat::FinishReason::stop;
    fmt::print("{}\n", to_text(json::object{
                           {"schema", schema}, {"text", text}, {"finish", stop ? "stop" : "length"}}));
    return;
  }
}

int run(int argc, char** argv) {
  CLI::App app("Answers of a random model under the grammars of JSON schemas.");
  std::string path;
  int64_t count = 1000;
  uint64_t seed = 1;
  bool free = false;
  app.add_option("SCHEMAS", path, "a JSON array of schemas")->required();
  app.add_option("--count", count, "answers to make");
  app.add_option("--seed", seed, "of the first answer");
  app.add_flag("--free", free, "leave the grammars out: the negative control");
  CLI11_PARSE(app, argc, argv);
  const json::array schemas = parse_json(read_file(path, 1 << 20)).as_array();
  Answers answers;
  std::vector<std::shared_ptr<const text::Grammar>> grammars;
  for (const json::value& schema : schemas) grammars.push_back(free ? nullptr : answers.compile(schema));
  for (int64_t first = 0; first < count; first += kBatch) {
    std::vector<std::unique_ptr<chat::Generation>> running;
    const int64_t end = std::min(count, first + kBatch);
    for (int64_t i = first; i < end; ++i)
      running.push_back(
          answers.begin(grammars[static_cast<size_t>(i) % grammars.size()], seed + static_cast<uint64_t>(i)));
    for (int64_t i = first; i < end; ++i)
      print_answer(*running[static_cast<size_t>(i - first)], static_cast<size_t>(i) % grammars.size());
  }
  return 0;
}

}  // namespace
}  // namespace neutrino

int main(int argc, char** argv) { return neutrino::run_main(neutrino::run, argc, argv); }
