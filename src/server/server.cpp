#include "server/server.h"

#include <thread>

#include "base/log.h"
#include "base/watchdog.h"
#include "server/request_log.h"
#include "server/routes.h"
#include "server/services.h"
#include "server/tracing.h"

namespace neutrino::server {
namespace {

constexpr std::chrono::milliseconds kDeadEngineGrace{
    1000};  // for the streams' error events, and for ready to say 503

std::vector<std::string> names_or(std::vector<std::string> names, const std::string& otherwise) {
  if (names.empty()) names.push_back(otherwise);
  return names;
}

std::unique_ptr<Tracing> start_tracing(std::optional<net::TraceExporterOptions> options, Metrics& metrics) {
  return options ? std::make_unique<Tracing>(std::move(*options), metrics) : nullptr;
}

}  // namespace

struct ReplicaServer::Impl {
  Impl(chat::ChatModel& model, Metrics& metrics, ReplicaOptions options)
      : watchdog_limit(options.watchdog),
        on_hang(std::move(options.on_hang)),
        log(metrics, options.request_log, options.audit_log),
        tracing(start_tracing(std::move(options.traces), metrics)),
        board(metrics, model, names_or(options.served_names, model.info().name).front()),
        http(with_callbacks(std::move(options.http))),
        wakeups(http.executor()),
        workers(options.worker_threads),
        services{.chat_model = model,
                 .metrics = metrics,
                 .http = http,
                 .workers = workers,
                 .wakeups = wakeups,
                 .active = active,
                 .board = board,
                 .served_names = names_or(std::move(options.served_names), model.info().name),
                 .ping = options.ping,
                 .openapi = {}} {
    std::vector<net::Route> routes = bind_routes(services);
    services.openapi = net::openapi_document(routes, "neutrino");
    http.set_routes(std::move(routes));
    http.spawn(wakeups.run());
    http.on_stop([this] { wakeups.close(); });
    model.set_wake([this] { wakeups.wake(); });
    add_process_metrics(metrics);
    handshake_failures = &metrics.counter("neutrino_tls_handshake_failures_total",
                                          "Connections that ended before TLS was agreed on");
    connections = &metrics.gauge("neutrino_http_connections", "Open connections");
    scrape = metrics.on_scrape([this] { connections->Set(static_cast<double>(http.connections())); });
  }
  ~Impl() {
    services.metrics.remove_on_scrape(scrape);
    services.chat_model.set_wake([] {});
  }

  net::ServerOptions with_callbacks(net::ServerOptions options) {
    options.on_request = [this] { log.begin(); };
    options.on_complete = [this](const net::Request& request, const net::Completion& completion) {
      log.record(request, completion, tracing ? tracing->record(request, completion) : "");
    };
    options.on_handshake_failure = [this] { handshake_failures->Increment(); };
    options.on_tick = [this] { watch_engine(); };
    options.on_reload = [this](std::string_view what, bool good) {
      services.metrics
          .counter("neutrino_config_reloads_total", "Files that were read again while serving",
                   {{"what", std::string(what)}, {"result", good ? "good" : "bad"}})
          .Increment();
    };
    return options;
  }

  std::vector<Watchdog::Subject> watched() const {
    return {{"the engine", [this] { return services.chat_model.status().since_progress_ns; }},
            {"a worker thread", [this] { return workers.oldest_task_ns(); }},
            {"the io thread", [this] { return http.stuck_ns(); }}};
  }

  // On the watchdog's thread. Whoever hangs, the others can still speak.
  void give_up(const std::string& who) {
    const std::string why = fmt::format("{} made no progress for {} ms", who, watchdog_limit.count());
    spdlog::critical("watchdog: {}; the process ends", why);
    services.chat_model.declare_dead(why);
    http.last_words(
        Error(ErrorCode::unavailable, "the engine has failed: " + why).with_reason("engine_dead"));
    std::this_thread::sleep_for(kDeadEngineGrace);
    if (on_hang) on_hang();
  }

  // A dead engine ends the process: by then its streams have had their error events.
  void watch_engine() {
    if (told_dead || !services.chat_model.status().dead) return;
    told_dead = true;
    spdlog::error("the engine is dead; the server ends");
    http.drain(kDeadEngineGrace);
  }

  const std::chrono::milliseconds watchdog_limit;
  const std::function<void()> on_hang;
  RequestLog log;
  std::unique_ptr<Tracing> tracing;  // null: no traces
  BoardMetrics board;
  ActiveRequests active;
  net::HttpServer http;
  net::Wakeups wakeups;
  net::Workers workers;
  Services services;
  Gauge* connections = nullptr;
  Counter* handshake_failures = nullptr;
  int64_t scrape = 0;
  bool told_dead = false;
};

ReplicaServer::ReplicaServer(chat::ChatModel& chat_model, Metrics& metrics, ReplicaOptions options)
    : impl_(new Impl(chat_model, metrics, std::move(options))) {}
ReplicaServer::~ReplicaServer() = default;

void ReplicaServer::listen() { impl_->http.listen(); }
int ReplicaServer::port() const { return impl_->http.port(); }
void ReplicaServer::run() {
  const Watchdog watchdog(impl_->watchdog_limit, impl_->watched(),
                          [impl = impl_.get()](const std::string& who) { impl->give_up(who); });
  impl_->http.run();
}
void ReplicaServer::drain(std::chrono::milliseconds grace) { impl_->http.drain(grace); }
void ReplicaServer::stop() { impl_->http.stop(); }
void ReplicaServer::reload() { impl_->http.reload(); }
int64_t ReplicaServer::requests_in_flight() const { return impl_->http.requests_in_flight(); }

}  // namespace neutrino::server
