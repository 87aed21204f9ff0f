// The HTTP surface of one replica: a ChatModel behind the routes of routes.cpp.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "chat/chat_model.h"
#include "net/server.h"
#include "net/trace_exporter.h"

namespace neutrino::server {

struct ReplicaOptions {
  net::ServerOptions http;                           // host, port, keys, allowed hosts and origins, timeouts
  std::vector<std::string> served_names;             // empty: the model's own name
  std::optional<std::filesystem::path> request_log;  // absent: stderr
  std::optional<std::filesystem::path> audit_log;    // of admin calls; absent: beside the request log
  std::optional<net::TraceExporterOptions> traces;   // absent: none are made
  int worker_threads = 2;
  std::chrono::milliseconds ping{limits::kPingSeconds * 1000};
  // When the engine, a worker or the io thread makes no progress for so long, everything that is being answered gets an error, ready
  // says 503, and a second later `on_hang` is called, on the watchdog's thread: it ends the process, since nothing else could end
  // what hangs. 0: no watchdog.
  std::chrono::milliseconds watchdog{0};
  std::function<void()> on_hang;
};

class ReplicaServer {
 public:
  // `chat_model` and `metrics` outlive this object.
  ReplicaServer(chat::ChatModel& chat_model, Metrics& metrics, ReplicaOptions options);
  ~ReplicaServer();

  void listen();  // throws Error{unavailable} that names a busy port
  int port() const;
  // Serves on this thread until drain() or stop() is through, or the engine has died and its streams were told.
  void run();
  void drain(std::chrono::milliseconds grace);  // any thread; a second call may shorten the grace
  void stop();                                  // any thread: interrupt now
  void reload();                                // any thread: reads keys and certificates again
  int64_t requests_in_flight() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace neutrino::server
