// neutrino run MODEL "prompt": one answer, for people and for scripts.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <iterator>

#include "base/json.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/options.h"
#include "cli/sampling_options.h"

namespace neutrino::cli {
namespace {

std::string finish_name(const chat::GenerationChunk& chunk) {
  return chunk.finish_reason == chat::FinishReason::length ? "length" : "stop";
}

// Streams the answer to standard output (unless `quiet`) and returns its last piece with the whole text in it.
chat::GenerationChunk follow(chat::Generation& generation, bool quiet) {
  std::string text;
  for (;;) {
    chat::GenerationChunk chunk = generation.wait();
    if (chunk.error) throw *chunk.error;
    text += chunk.text;
    if (!quiet) std::fwrite(chunk.text.data(), 1, chunk.text.size(), stdout), std::fflush(stdout);
    if (!chunk.finish_reason) continue;
    chunk.text = std::move(text);
    return chunk;
  }
}

}  // namespace

int run_run(int argc, char** argv) {
  CLI::App app("Answer one prompt and exit.\nExample: neutrino run smollm2-135m-instruct \"What is a star?\"",
               "neutrino run");
  EngineConfig engine;
  chat::SamplingParameters sampling{.max_tokens = 256};
  std::string model_name, prompt, system;
  bool raw = false, as_json = false;
  app.add_option("MODEL", model_name, "a name in the store or a path to a GGUF file")->required();
  auto* prompt_option = app.add_option("PROMPT", prompt, "the prompt; without it, standard input is read");
  app.add_option("--system", system, "a system message before the prompt");
  app.add_flag("--raw", raw, "continue the text as it is, without chat template");
  app.add_flag("--json", as_json, "print one JSON object instead of the text");
  sampling.temperature = 0;
  add_sampling_options(app, sampling);
  add_engine_options(app, engine);
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  if (prompt_option->count() == 0) prompt.assign(std::istreambuf_iterator<char>(std::cin), {});

  spdlog::set_level(spdlog::level::warn);
  const auto running = start_model(model_name, engine);
  chat::ChatModel& model = running->chat_model();
  chat::Conversation conversation;
  if (!system.empty()) conversation.messages.push_back({.role = "system", .content = system});
  conversation.messages.push_back({.role = "user", .content = prompt});
  raw = raw || !model.info().has_chat_template;
  const std::string text = raw ? prompt : model.render(conversation);
  const auto generation =
      model.generate({.id = "run", .prompt = model.tokenize(text, raw, !raw), .sampling = sampling});
  const chat::GenerationChunk last = follow(*generation, as_json);
  if (!as_json) return std::puts(""), 0;
  std::puts(to_text(json::object{{"text", last.text},
                                 {"finish_reason", finish_name(last)},
                                 {"prompt_tokens", last.usage.prompt_tokens},
                                 {"completion_tokens", last.usage.completion_tokens},
                                 {"prefill_ms", last.timings.prefill_ms},
                                 {"decode_ms", last.timings.decode_ms}})
                .c_str());
  return 0;
}

}  // namespace neutrino::cli
