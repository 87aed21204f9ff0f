// The sampling flags that `run` and `chat` share.
#pragma once

#include <CLI/CLI.hpp>

#include "chat/chat_model.h"

namespace neutrino::cli {

inline void add_sampling_options(CLI::App& app, chat::SamplingParameters& sampling) {
  app.add_option("--max-tokens", sampling.max_tokens, "tokens to generate at most")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 24))
      ->capture_default_str();
  app.add_option("--temperature", sampling.temperature, "0: always the most likely token")
      ->check(CLI::Range(0.0, 2.0));
  app.add_option("--top-k", sampling.top_k, "sample among the k most likely tokens (0: all)")
      ->check(CLI::Range(0, 1 << 24));
  app.add_option("--top-p", sampling.top_p, "sample among the most likely tokens that hold this probability")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--min-p", sampling.min_p, "drop tokens below this share of the best one's probability")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option_function<uint64_t>(
      "--seed", [&](const uint64_t& seed) { sampling.seed = seed; }, "makes sampling repeatable");
}

}  // namespace neutrino::cli
