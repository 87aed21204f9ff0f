// A replica without a model, as a program: for the gateway's benchmark and for tests of the cloud.
#include <signal.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "cloud/testing/stub_replica.h"

using neutrino::cloud::testing::StubOptions;
using neutrino::cloud::testing::StubReplica;

namespace {

int run(int argc, char** argv) {
  StubOptions options;
  int64_t token_ms = 0, startup_ms = 0, grace_ms = 30'000;
  CLI::App app("answers like an OpenAI server, without a model");
  app.add_option("--host", options.host, "address to listen on");
  app.add_option("--port", options.port, "0: any free one");
  app.add_option("--prefill", options.prefill_tokens_per_second, "prompt tokens per second; 0: at once");
  app.add_option("--token-ms", token_ms, "between two tokens");
  app.add_option("--cache-tokens", options.cache_tokens, "size of the prefix cache");
  app.add_option("--startup-ms", startup_ms, "not ready for so long");
  app.add_option("--requests-max", options.requests_max, "at once; more get 429");
  app.add_option("--log", options.log, "file that gets one line a request");
  app.add_option("--grace-ms", grace_ms, "what runs may finish for so long after SIGTERM");
  CLI11_PARSE(app, argc, argv);
  options.token = std::chrono::milliseconds(token_ms);
  options.startup = std::chrono::milliseconds(startup_ms);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  spdlog::set_level(spdlog::level::warn);
  StubReplica stub(options);
  std::printf("listening on %s port %d\n", options.host.c_str(), stub.port());
  std::fflush(stdout);
  std::thread stopper([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    stub.stop(std::chrono::milliseconds(grace_ms));
  });
  stub.run();
  stopper.join();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const neutrino::Error& error) {
    std::fprintf(stderr, "stub_replica: %s\n", error.message().c_str());
    return 1;
  }
}
