// neutrino serve MODEL: the inference microservice. Loads the model, listens, says so, and serves until it is told to stop.
//
// SIGTERM or SIGINT drains: readiness goes, what runs may finish, what is new is refused. A second one ends at once. SIGHUP reads
// keys and certificates again.

#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <thread>

#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/command.h"
#include "cli/load.h"
#include "cli/options.h"
#include "cli/profiles.h"
#include "cli/settings.h"
#include "cli/trace_options.h"
#include "net/auth.h"
#include "net/limits.h"
#include "server/server.h"

namespace neutrino::cli {
namespace {

struct ServeConfig {
  std::string config, profile = "default", log_level = "info";
  bool dry_run = false, list_profiles = false, json = false;
  std::string model, host = "127.0.0.1", request_log, audit_log, api_key_file;
  int port = 8000;
  std::string tls_cert, tls_key, tls_client_ca, otlp_endpoint;
  net::KeyLimits key_limits;
  std::vector<std::string> api_keys, served_names, allowed_hosts, allowed_origins;
  bool metrics_open = false, insecure_no_tls = false;
  int64_t shutdown_seconds = limits::kShutdownSeconds;
  double watchdog_seconds = 300;
};

// NIM's names of levels are the same in capitals, but for two.
std::string log_level(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (text == "warning") return "warn";
  if (text == "critical") return "error";
  return text == "default" ? "info" : text;
}

void add_general_options(CLI::App& app, ServeConfig& config) {
  app.add_option("--config", config.config, "JSON file of flags and values, below flags and environment");
  app.add_option("--profile", config.profile, "a profile that --list-profiles shows, by name or id")
      ->capture_default_str();
  app.add_option("--log-level", config.log_level, "trace, debug, info, warn, error or off")
      ->transform(log_level)
      ->capture_default_str();
  app.add_flag("--dry-run", config.dry_run, "show every setting and where it comes from, and end");
  app.add_flag("--list-profiles", config.list_profiles,
               "show the ways to run MODEL here and the memory that each takes, and end");
  app.add_flag("--json", config.json, "print --dry-run and --list-profiles as JSON");
}

void add_serve_options(CLI::App& app, ServeConfig& config) {
  app.add_option("MODEL", config.model, "a name in the store or a path to a GGUF file")->required();
  app.add_option("--host", config.host, "address to listen on")->capture_default_str();
  app.add_option("--port", config.port, "port to listen on; 0 picks a free one")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  app.add_option("--api-key", config.api_keys,
                 "key that clients must send; it may do everything (repeatable)")
      ->envname("NEUTRINO_API_KEY");
  app.add_option(
         "--api-key-file", config.api_key_file,
         "file of keys, one \"NAME KEY [scopes=inference,metrics,admin]\" a line, read again on change")
      ->envname("NEUTRINO_API_KEY_FILE");
  app.add_option("--requests-per-minute", config.key_limits.requests_per_minute,
                 "limit of each key (of all clients together without keys); 0: none")
      ->check(CLI::Range(int64_t{0}, limits::kPerMinute));
  app.add_option("--tokens-per-minute", config.key_limits.tokens_per_minute,
                 "likewise, of prompt and generated tokens; a line of the key file may say otherwise")
      ->check(CLI::Range(int64_t{0}, limits::kPerMinute));
  app.add_flag("--metrics-open", config.metrics_open, "let anybody who can connect read the metrics");
  app.add_option("--served-model-name", config.served_names,
                 "name in the API instead of the model's own (repeatable)");
  app.add_option("--allowed-host", config.allowed_hosts,
                 "host name under which clients may reach the server (repeatable)");
  app.add_option("--allowed-origin", config.allowed_origins,
                 "web origin that may call the server (repeatable)");
  app.add_option("--request-log", config.request_log,
                 "file for the request log, one JSON object a line (default: standard error)");
  app.add_option("--audit-log", config.audit_log,
                 "file for one line per admin call (default: beside the request log)");
  app.add_option("--shutdown-timeout", config.shutdown_seconds,
                 "seconds that running requests get after SIGTERM")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  app.add_option("--tls-cert", config.tls_cert,
                 "certificate and its chain in PEM: speak TLS; read again on change")
      ->envname("NEUTRINO_TLS_CERT");
  app.add_option("--tls-key", config.tls_key, "its private key in PEM")->envname("NEUTRINO_TLS_KEY");
  app.add_option("--tls-client-ca", config.tls_client_ca,
                 "authorities in PEM whose certificates clients must show")
      ->envname("NEUTRINO_TLS_CLIENT_CA");
  app.add_option("--otlp-endpoint", config.otlp_endpoint,
                 "base URL of an OpenTelemetry collector for traces (default: OTEL_EXPORTER_OTLP_ENDPOINT)");
  app.add_option("--watchdog-timeout", config.watchdog_seconds,
                 "seconds without progress after which the process ends itself with an error; 0: never")
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  app.add_flag("--insecure-no-tls", config.insecure_no_tls, "listen beyond loopback without TLS");
}

server::ReplicaOptions replica_options(const ServeConfig& config) {
  server::ReplicaOptions options;
  options.http.host = config.host;
  options.http.port = config.port;
  options.http.allowed_hosts = config.allowed_hosts;
  options.http.allowed_origins = config.allowed_origins;
  for (size_t i = 0; i < config.api_keys.size(); ++i)
    options.http.keys.add(fmt::format("key-{}", i + 1), config.api_keys[i]);
  options.http.key_file = config.api_key_file;
  options.http.key_limits = config.key_limits;
  options.http.tls = {
      .certificate = config.tls_cert, .key = config.tls_key, .client_ca = config.tls_client_ca};
  options.http.metrics_open = config.metrics_open;
  options.served_names = config.served_names;
  if (!config.audit_log.empty()) options.audit_log = config.audit_log;
  if (!config.request_log.empty()) options.request_log = config.request_log;
  options.watchdog = std::chrono::milliseconds(static_cast<int64_t>(config.watchdog_seconds * 1000));
  options.on_hang = [] { std::_Exit(1); };  // a thread that hangs cannot be joined
  return options;
}

// SIGHUP keeps its meaning (the terminal is gone: end) where there is no file to read again.
sigset_t handled_signals(const ServeConfig& config) {
  sigset_t signals;
  sigemptyset(&signals);
  if (!config.api_key_file.empty() || !config.tls_cert.empty()) sigaddset(&signals, SIGHUP);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// Waits for signals beside the server. All other threads have them blocked.
class SignalThread {
 public:
  SignalThread(server::ReplicaServer& server, const sigset_t& signals, std::chrono::seconds grace)
      : signals_(signals), thread_([this, &server, grace] {
          wait(server);
          if (ended_) return;
          spdlog::info("draining in_flight={} grace_s={}", server.requests_in_flight(), grace.count());
          server.drain(grace);
          wait(server);
          if (!ended_) server.stop();
        }) {}
  ~SignalThread() {
    ended_ = true;
    pthread_kill(thread_.native_handle(), SIGTERM);
    thread_.join();
  }

 private:
  // Returns on a signal to stop.
  void wait(server::ReplicaServer& server) {
    int signal = SIGHUP;
    while (!ended_ && signal == SIGHUP) {
      sigwait(&signals_, &signal);
      if (signal == SIGHUP && !ended_) server.reload();
    }
  }
  const sigset_t signals_;
  std::atomic<bool> ended_{false};
  std::thread thread_;
};

void add_all_options(CLI::App& app, ServeConfig& config, EngineConfig& engine) {
  add_serve_options(app, config);
  add_general_options(app, config);
  add_engine_options(app, engine);
  add_adapter_options(app, engine);
  // Of an option given twice the last one counts, so that the command line overrides NIM_PASSTHROUGH_ARGS.
  for (CLI::Option* option : app.get_options())
    if (option->get_items_expected_max() == 1) option->take_last();
}

std::map<std::string, std::string> profile_settings(const std::string& model, const std::string& profile) {
  return find_profile(open_model(model).facts, profile).settings;
}

// What is set by the environment, the file and the profile, found with options of their own.
GatheredSettings gather(int argc, const char* const* argv) {
  ServeConfig config;
  EngineConfig engine;
  CLI::App probe;
  add_all_options(probe, config, engine);
  return gather_settings(probe, argc, argv, process_environment(), profile_settings);
}

// Where NIM keeps models is where we do, unless our own variable says otherwise.
void use_nim_cache() {
  const char* cache = std::getenv("NIM_CACHE_PATH");
  if (cache && *cache) ::setenv("NEUTRINO_HOME", cache, 0);
}

int show_profiles(const ServeConfig& config, const EngineConfig& engine) {
  const AvailableMemory available = available_memory();
  const json::array profiles = list_profiles(open_model(config.model), engine.context, available);
  if (config.json)
    fmt::print("{}\n", to_text(json::value(profiles)));
  else
    print_profiles(profiles, available);
  return 0;
}

int show_settings(const ServeConfig& config, const CLI::App& app, const GatheredSettings& gathered) {
  const json::array settings = settings_json(app, gathered);
  if (config.json)
    fmt::print("{}\n", to_text(json::value(settings)));
  else
    print_settings(settings);
  return 0;
}

// A bad file is told before a model is loaded.
void check_files(const ServeConfig& config) {
  const server::ReplicaOptions options = replica_options(config);
  if (!options.http.key_file.empty()) net::ApiKeys().add_file(options.http.key_file);
  net::load_tls(options.http.tls);
  trace_options(config.otlp_endpoint, "");
}

void print_ready(const ServeConfig& config, int port, const chat::ChatModelInfo& info) {
  std::printf("neutrino ready: %s://%s:%d model=%s\n", config.tls_cert.empty() ? "http" : "https",
              config.host.c_str(), port,
              config.served_names.empty() ? info.name.c_str() : config.served_names[0].c_str());
  std::fflush(stdout);
}

}  // namespace

int run_serve(int argc, char** argv) {
  ServeConfig config;
  EngineConfig engine;
  CLI::App app(
      "Serve a model over the OpenAI-compatible HTTP API.\nExample: neutrino serve smollm2-135m-instruct "
      "--port 8000",
      "neutrino serve");
  add_all_options(app, config, engine);
  use_nim_cache();
  GatheredSettings gathered = gather(argc, argv);
  if (const auto exit_code = parse_options(app, gathered.arguments)) return *exit_code;
  init_log(config.log_level);
  for (const std::string& note : gathered.notes) spdlog::info("{}", note);
  net::check_bind(config.host, {.has_key = !config.api_keys.empty() || !config.api_key_file.empty(),
                                .has_tls = !config.tls_cert.empty(),
                                .has_client_ca = !config.tls_client_ca.empty(),
                                .insecure_no_tls = config.insecure_no_tls});
  if (config.list_profiles) return show_profiles(config, engine);
  if (config.dry_run) return show_settings(config, app, gathered);

  check_files(config);

  const sigset_t signals = handled_signals(config);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  if (!config.served_names.empty()) engine.served_name = config.served_names.front();
  const auto running = start_model(config.model, engine);
  server::ReplicaOptions options = replica_options(config);
  options.traces = trace_options(config.otlp_endpoint, running->chat_model().info().name);
  server::ReplicaServer server(running->chat_model(), running->metrics(), std::move(options));
  server.listen();
  print_ready(config, server.port(), running->chat_model().info());
  {
    const SignalThread stopper(server, signals, std::chrono::seconds(config.shutdown_seconds));
    server.run();
  }
  if (running->chat_model().status().dead) {
    spdlog::error("the engine has died; ending");
    return 1;
  }
  spdlog::info("stopped");
  return 0;
}

}  // namespace neutrino::cli
