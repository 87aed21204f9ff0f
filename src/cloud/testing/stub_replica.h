// A replica without a model, for tests and benchmarks: it takes as long as a real one would.
//
// Prompts are computed one after the other at a fixed speed, except for what an LRU cache of prefixes still has; then tokens come at a
// fixed pace. Answers chat, completions (both streamed or not) and embeddings as OpenAI's API does, with usage, and can write what it
// served into a file (/dev/stderr, too), one line a request as `neutrino serve` writes it.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

namespace neutrino::cloud::testing {

struct StubOptions {
  std::string host = "127.0.0.1";
  int port = 0;                          // 0: any free one
  double prefill_tokens_per_second = 0;  // 0: at once
  std::chrono::milliseconds token{0};    // between two tokens
  int64_t cache_tokens = 0;
  std::chrono::milliseconds startup{0};  // not ready (503) for so long
  int64_t requests_max = 0;              // at once; more get 429; 0: no limit
  std::filesystem::path log;             // empty: none
};

struct StubServed {
  std::string request_id, usage_id, traceparent, authorization, model;
  int64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  bool complete = false;  // else the client left
};

class StubReplica {
 public:
  explicit StubReplica(StubOptions options = {});  // listens; throws Error
  ~StubReplica();                                  // ends what runs

  int port() const;
  void run();    // on this thread, until stop()
  void start();  // on a thread of its own
  void stop(std::chrono::milliseconds grace = {});
  std::vector<StubServed> served() const;  // any thread
  int64_t in_flight() const;
  int64_t in_flight_max() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neutrino::cloud::testing
