#include "server/request_log.h"

#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "base/json.h"

namespace neutrino::server {
namespace {

const HistogramBuckets kSeconds = {.001, .0025, .005, .01, .025, .05, .1,  .25, .5,
                                   1,    2.5,   5,    10,  30,   60,  120, 300};
const HistogramBuckets kBytes = {100, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8};

std::string_view status_class(const net::Completion& completion) {
  if (completion.truncated) return "truncated";  // a 200 that did not reach its end
  if (completion.status == 499) return "499";
  switch (completion.status / 100) {
    case 2: return "2xx";
    case 4: return "4xx";
    default: return "5xx";
  }
}

}  // namespace

RequestLog::RequestLog(Metrics& metrics, const std::optional<std::filesystem::path>& file)
    : metrics_(metrics), file_(stderr) {
  if (!file) return;
  file_ = std::fopen(file->c_str(), "ae");
  if (!file_)
    throw make_error(ErrorCode::invalid_argument, "--request-log {}: {}", file->string(),
                     std::strerror(errno));
  std::setvbuf(file_, nullptr, _IOLBF, 1 << 16);
}

RequestLog::~RequestLog() {
  if (file_ != stderr) std::fclose(file_);
}

void RequestLog::count(std::string_view handler, const net::Request& request,
                       const net::Completion& completion) {
  const MetricLabels labels{{"handler", std::string(handler)},
                            {"method", std::string(net::method_name(request.method))}};
  MetricLabels with_status = labels;
  with_status["status"] = status_class(completion);
  metrics_.counter("http_requests_total", "Requests that ended, by how", with_status).Increment();
  metrics_
      .histogram("http_request_duration_seconds", "From header to the end of the answer", kSeconds, labels)
      .Observe(static_cast<double>(completion.duration_ns) * 1e-9);
  metrics_.histogram("http_request_size_bytes", "Bodies of requests", kBytes, labels)
      .Observe(static_cast<double>(request.body.size()));
  metrics_.histogram("http_response_size_bytes", "Answers on the wire", kBytes, labels)
      .Observe(static_cast<double>(completion.bytes_sent));
}

void RequestLog::record(const net::Request& request, const net::Completion& completion) {
  const std::string_view handler = request.route ? request.route->path : "none";
  count(handler, request, completion);
  json::object line;
  line["time_unix_ms"] = std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
  line["id"] = request.id;
  line["key"] = request.key_name;
  line["method"] = net::method_name(request.method);
  line["route"] = handler;
  line["status"] = completion.status;
  line["error"] = completion.error.empty() ? json::value(nullptr) : json::value(completion.error);
  line["truncated"] = completion.truncated;
  line["duration_ms"] = completion.duration_ns / 1'000'000;
  line["bytes_sent"] = completion.bytes_sent;
  for (const auto& [key, value] : completion.log) line[key] = value;
  const std::string text = to_text(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), file_);
}

}  // namespace neutrino::server
