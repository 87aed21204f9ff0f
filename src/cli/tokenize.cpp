// neutrino tokenize MODEL [TEXT]: the tokens of a text, for prompt authors and for comparing tokenizers.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/json.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/options.h"

namespace neutrino::cli {

int run_tokenize(int argc, char** argv) {
  CLI::App app("Show the tokens of a text.\nExample: neutrino tokenize smollm2-135m-instruct \"Hello there\"",
               "neutrino tokenize");
  std::string model, text;
  bool as_json = false, plain = false;
  app.add_option("MODEL", model, "a name in the store or a path to a GGUF file")->required();
  auto* text_option = app.add_option("TEXT", text, "the text; without it, standard input is read");
  app.add_flag("--json", as_json, "print {\"tokens\": [...], \"count\": N}");
  app.add_flag("--no-special", plain, "treat <|im_start|> and the like as plain text");
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  if (text_option->count() == 0) text.assign(std::istreambuf_iterator<char>(std::cin), {});

  const weights::OpenModel opened = open_model(model);
  const auto tokenizer = tokenizer::make_tokenizer(opened.file->vocabulary());
  const auto ids = tokenizer->encode(text, plain ? tokenizer::Special::as_text : tokenizer::Special::parse);
  if (as_json) {
    json::array tokens(ids.begin(), ids.end());
    std::puts(to_text(json::object{{"tokens", std::move(tokens)}, {"count", ids.size()}}).c_str());
    return 0;
  }
  for (const int32_t id : ids) {
    const std::string shown = to_text(json::value(tokenizer::decode(*tokenizer, {&id, 1}, false)));
    std::printf("%7d  %s\n", id, shown.c_str());
  }
  std::printf("%zu tokens\n", ids.size());
  return 0;
}

}  // namespace neutrino::cli
