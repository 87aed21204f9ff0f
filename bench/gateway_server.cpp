// The gateway alone, with a route table from a file: for the benchmark beside nginx.
#include <signal.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <thread>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "cloud/gateway.h"

namespace {

using namespace neutrino;

int run(int argc, char** argv) {
  std::filesystem::path routes, journal_folder;
  int port = 0;
  CLI::App app("the gateway with a fixed route table");
  app.add_option("--routes", routes, "the table, JSON")->required();
  app.add_option("--journal", journal_folder, "folder of the usage journal")->required();
  app.add_option("--port", port, "0: any free one");
  CLI11_PARSE(app, argc, argv);
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  spdlog::set_level(spdlog::level::warn);
  cloud::RouteTable table;
  read_json(table, parse_json(read_file(routes, 64 << 20)), Accept::from_storage);
  cloud::UsageJournal journal(journal_folder);
  cloud::Gateway gateway({.server = {.port = port, .connections_max = 16'000}, .usage = &journal});
  gateway.listen();
  gateway.set_routes(table);
  std::printf("listening on 127.0.0.1 port %d\n", gateway.port());
  std::fflush(stdout);
  std::thread stopper([&] {
    int signal = 0;
    sigwait(&signals, &signal);
    gateway.drain(std::chrono::milliseconds(2000));
  });
  gateway.run();
  stopper.join();
  std::printf("usage records %ld\n", static_cast<long>(journal.last_sequence()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const Error& error) {
    std::fprintf(stderr, "gateway_server: %s\n", error.message().c_str());
    return 1;
  }
}
