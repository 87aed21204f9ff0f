#include "server/load_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>

namespace neutrino::server {

double kv_cache_usage(const chat::ChatModelStatus& status) {
  const int64_t all = status.kv_blocks_referenced + status.kv_blocks_cached + status.kv_blocks_free;
  return all == 0 ? 0 : static_cast<double>(status.kv_blocks_referenced) / static_cast<double>(all);
}

std::optional<std::string> orca_load(std::string_view format, const chat::ChatModelStatus& status) {
  std::string kind(format);
  std::ranges::transform(kind, kind.begin(), [](unsigned char c) { return std::toupper(c); });
  const double usage = kv_cache_usage(status);
  if (kind == "TEXT")
    return fmt::format(
        "TEXT named_metrics.kv_cache_usage_perc={}, named_metrics.num_requests_waiting={}, "
        "named_metrics.num_requests_running={}",
        usage, status.waiting, status.running);
  if (kind != "JSON") return std::nullopt;
  json::object metrics;
  metrics["kv_cache_usage_perc"] = usage;
  metrics["num_requests_waiting"] = status.waiting;
  metrics["num_requests_running"] = status.running;
  json::object report;
  report["named_metrics"] = std::move(metrics);
  return "JSON " + to_text(report);
}

json::object load_json(const chat::ChatModelStatus& status) {
  json::object body;
  body["server_load"] = status.running + status.waiting;
  body["num_requests_running"] = status.running;
  body["num_requests_waiting"] = status.waiting;
  body["kv_cache_usage_perc"] = kv_cache_usage(status);
  body["expected_wait_seconds"] = status.queue_drain_seconds;
  return body;
}

}  // namespace neutrino::server
