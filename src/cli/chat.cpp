// neutrino chat MODEL: a conversation in the terminal. Streams, keeps the history, takes several lines ("""), and knows a few
// commands (/help). Ctrl-C stops the answer that is being written, not the program.

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/options.h"
#include "cli/sampling_options.h"

namespace neutrino::cli {
namespace {

std::atomic<bool> interrupted{false};

class Chat {
 public:
  Chat(chat::ChatModel& model, chat::SamplingParameters sampling, std::string system)
      : model_(model),
        sampling_(std::move(sampling)),
        system_(std::move(system)),
        terminal_(::isatty(STDIN_FILENO)) {
    reset();
  }

  void loop() {
    if (terminal_)
      std::printf("%s. /help lists the commands, \"\"\" begins and ends a text of several lines.\n",
                  model_.info().name.c_str());
    while (const auto input = read_input()) {
      if (input->empty()) continue;
      if (input->front() == '/') {
        if (!command(*input)) return;
        continue;
      }
      answer(*input);
    }
    if (terminal_) std::puts("");
  }

 private:
  void reset() {
    conversation_.messages.clear();
    if (!system_.empty()) conversation_.messages.push_back({.role = "system", .content = system_});
  }

  std::optional<std::string> read_line(const char* prompt) {
    if (terminal_) std::fputs(prompt, stdout), std::fflush(stdout);
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }

  std::optional<std::string> read_input() {
    auto line = read_line("> ");
    if (!line || !line->starts_with("\"\"\"")) return line;
    std::string text = line->substr(3);
    while (!text.ends_with("\"\"\"")) {
      line = read_line(". ");
      if (!line) return std::nullopt;
      text += (text.empty() ? "" : "\n") + *line;
    }
    return text.substr(0, text.size() - 3);
  }

  // false: leave the program.
  bool command(const std::string& line) {
    const auto space = line.find(' ');
    const std::string name = line.substr(0, space),
                      argument = space == line.npos ? "" : line.substr(space + 1);
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/clear") return reset(), true;
    if (name == "/system") return system_ = argument, reset(), true;
    if (name == "/history") return print_history(), true;
    if (name == "/save") return save(argument), true;
    if (name == "/retry") return retry(), true;
    if (name == "/temperature") return set_temperature(argument), true;
    if (name != "/help") std::printf("%s is not a command.\n", name.c_str());
    std::puts(
        "/clear             forget the conversation\n/system TEXT       set the system message and start "
        "afresh\n"
        "/retry             answer the last message again\n/temperature X     0 to 2 (0: always the most "
        "likely token)\n"
        "/history           show the conversation\n/save FILE         write it as JSON\n/exit              "
        "leave (also Ctrl-D)");
    return true;
  }

  void set_temperature(const std::string& text) {
    try {
      const double value = std::stod(text);
      if (!(value >= 0 && value <= 2)) throw std::out_of_range(text);
      sampling_.temperature = value;
    } catch (const std::exception&) {
      std::printf("the temperature must be 0 to 2, got \"%s\"\n", text.c_str());
    }
  }

  void print_history() const {
    for (const chat::Message& message : conversation_.messages)
      std::printf("%s: %s\n", message.role.c_str(), message.content.value_or("").c_str());
  }

  void save(const std::string& path) const {
    if (path.empty()) return void(std::puts("/save needs a file name"));
    json::array messages;
    for (const chat::Message& message : conversation_.messages)
      messages.push_back(json::object{{"role", message.role}, {"content", message.content.value_or("")}});
    try {
      write_file_atomic(path, to_text(json::object{{"messages", std::move(messages)}}) + "\n");
    } catch (const Error& error) {
      std::printf("%s\n", error.what());
    }
  }

  void retry() {
    if (conversation_.messages.empty() || conversation_.messages.back().role != "assistant")
      return void(std::puts("there is no answer to retry"));
    conversation_.messages.pop_back();
    const std::string question = conversation_.messages.back().content.value_or("");
    conversation_.messages.pop_back();
    answer(question);
  }

  void answer(const std::string& question) {
    conversation_.messages.push_back({.role = "user", .content = question});
    try {
      const std::string text = stream(model_.tokenize(model_.render(conversation_), false, true));
      conversation_.messages.push_back({.role = "assistant", .content = text});
    } catch (const Error& error) {
      std::printf("%s\n", error.what());
      conversation_.messages.pop_back();
    }
  }

  std::string stream(std::vector<int32_t> prompt) {
    interrupted = false;
    const auto generation = model_.generate(
        {.id = fmt::format("chat-{}", ++turn_), .prompt = std::move(prompt), .sampling = sampling_});
    std::string text;
    for (;;) {
      const chat::GenerationChunk chunk = generation->wait();
      if (chunk.error) throw *chunk.error;
      text += chunk.text;
      std::fwrite(chunk.text.data(), 1, chunk.text.size(), stdout), std::fflush(stdout);
      if (chunk.finish_reason) return print_speed(chunk), text;
      if (interrupted) generation->cancel();
    }
  }

  void print_speed(const chat::GenerationChunk& last) const {
    std::puts("");
    if (!terminal_) return;
    const double seconds = last.timings.decode_ms / 1e3;
    const auto decoded = static_cast<double>(last.usage.completion_tokens - 1);
    std::printf(
        "\033[2m%lld tokens, %.1f tokens/s, first after %.0f ms, %lld of %lld prompt tokens cached\033[0m\n",
        static_cast<long long>(last.usage.completion_tokens), seconds > 0 ? decoded / seconds : 0.0,
        last.timings.queue_ms + last.timings.prefill_ms, static_cast<long long>(last.usage.cached_tokens),
        static_cast<long long>(last.usage.prompt_tokens));
  }

  chat::ChatModel& model_;
  chat::SamplingParameters sampling_;
  std::string system_;
  chat::Conversation conversation_;
  bool terminal_;
  int64_t turn_ = 0;
};

}  // namespace

int run_chat(int argc, char** argv) {
  CLI::App app(
      "Talk to a model in the terminal.\nExample: neutrino chat smollm2-135m-instruct --temperature 0.7",
      "neutrino chat");
  EngineConfig engine;
  engine.max_sequences = 1;
  chat::SamplingParameters sampling{.temperature = 0.7, .top_p = 0.95, .max_tokens = 1024};
  std::string model_name, system;
  app.add_option("MODEL", model_name, "a name in the store or a path to a GGUF file")->required();
  app.add_option("--system", system, "the system message");
  add_sampling_options(app, sampling);
  add_engine_options(app, engine);
  if (const auto exit_code = parse_options(app, argc, argv)) return *exit_code;
  spdlog::set_level(spdlog::level::warn);
  const auto running = start_model(model_name, engine);
  if (!running->chat_model().info().has_chat_template)
    throw make_error(ErrorCode::failed_precondition, "{} has no chat template; use `neutrino run --raw`",
                     model_name);
  std::signal(SIGINT, [](int) { interrupted = true; });
  Chat(running->chat_model(), sampling, system).loop();
  return 0;
}

}  // namespace neutrino::cli
