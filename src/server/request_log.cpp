#include "server/request_log.h"

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstring>

#include "base/error.h"
#include "base/json.h"
#include "net/error_body.h"

namespace neutrino::server {
namespace {

const HistogramBuckets kSeconds = {.001, .0025, .005, .01, .025, .05, .1,  .25, .5,
                                   1,    2.5,   5,    10,  30,   60,  120, 300};
const HistogramBuckets kFineSeconds = {.01, .025, .05, .075, .1,  .25, .5,  .75, 1,  1.5, 2,
                                       2.5, 3,    3.5, 4,    4.5, 5,   7.5, 10,  30, 60};
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

json::object identity(const net::Request& request) {
  json::object line;
  line["time_unix_ms"] = std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1);
  line["id"] = request.id;
  line["key"] = request.key_name;
  line["method"] = net::method_name(request.method);
  line["route"] = request.route ? request.route->path : "none";
  return line;
}

// Under which a gateway has its own record of the request: it finds here what it could only estimate.
std::string_view usage_id(const net::Request& request) {
  const std::string_view id = request.header("x-neutrino-usage-id");
  const bool plain =
      std::all_of(id.begin(), id.end(), [](unsigned char c) { return std::isalnum(c) || c == '-'; });
  return plain && id.size() <= 64 ? id : std::string_view();
}

void write_line(const json::object& line, std::FILE* file) {
  const std::string text = to_text(line) + "\n";
  std::fwrite(text.data(), 1, text.size(), file);
}

}  // namespace

RequestLog::File RequestLog::open(std::string_view flag, const std::optional<std::filesystem::path>& path) {
  if (!path) return nullptr;
  File file(std::fopen(path->c_str(), "ae"));
  if (!file)
    throw make_error(ErrorCode::invalid_argument, "{} {}: {}", flag, path->string(), std::strerror(errno));
  std::setvbuf(file.get(), nullptr, _IOLBF, 1 << 16);
  return file;
}

RequestLog::RequestLog(Metrics& metrics, const std::optional<std::filesystem::path>& file,
                       const std::optional<std::filesystem::path>& audit)
    : metrics_(metrics),
      accepted_(metrics.counter("neutrino_http_requests_accepted_total",
                                "Requests that came; each ends once in http_requests_total")),
      file_(open("--request-log", file)),
      audit_(open("--audit-log", audit)) {}

void RequestLog::count(std::string_view handler, const net::Request& request,
                       const net::Completion& completion) {
  const MetricLabels labels{{"handler", std::string(handler)},
                            {"method", std::string(net::method_name(request.method))}};
  MetricLabels with_status = labels;
  with_status["status"] = status_class(completion);
  metrics_.counter("http_requests_total", "Requests that ended, by how", with_status).Increment();
  if (completion.error == "rate_limit_exceeded")
    metrics_
        .counter("neutrino_rate_limited_requests_total", "Requests beyond their key's limit",
                 {{"key", request.key_name}})
        .Increment();
  metrics_
      .histogram("http_request_duration_seconds", "From header to the end of the answer", kSeconds, labels)
      .Observe(static_cast<double>(completion.duration_ns) * 1e-9);
  metrics_.histogram("http_request_duration_highr_seconds", "The same of all routes, finer", kFineSeconds)
      .Observe(static_cast<double>(completion.duration_ns) * 1e-9);
  metrics_.histogram("http_request_size_bytes", "Bodies of requests", kBytes, labels)
      .Observe(static_cast<double>(request.body.size()));
  metrics_.histogram("http_response_size_bytes", "Answers on the wire", kBytes, labels)
      .Observe(static_cast<double>(completion.bytes_sent));
}

void RequestLog::record(const net::Request& request, const net::Completion& completion,
                        std::string_view trace_id) {
  const std::string_view handler = request.route ? request.route->path : "none";
  count(handler, request, completion);
  json::object line = identity(request);
  line["status"] = completion.status;
  line["error"] = completion.error.empty() ? json::value(nullptr) : json::value(completion.error);
  line["truncated"] = completion.truncated;
  line["duration_ms"] = completion.duration_ns / 1'000'000;
  line["bytes_sent"] = completion.bytes_sent;
  if (!trace_id.empty()) line["trace_id"] = trace_id;
  if (const std::string_view id = usage_id(request); !id.empty()) line["usage_id"] = id;
  for (const auto& [key, value] : completion.log) line[key] = value;
  write_line(line, file_ ? file_.get() : stderr);
  if (request.route && request.route->auth == net::AuthPolicy::admin) audit(request, completion);
}

void RequestLog::audit(const net::Request& request, const net::Completion& completion) {
  json::object line = identity(request);
  line["audit"] = "admin_call";
  line["peer"] = request.peer;
  line["path"] = net::bounded_text(request.path + (request.query.empty() ? "" : "?" + request.query), 512);
  line["status"] = completion.status;
  line["error"] = completion.error.empty() ? json::value(nullptr) : json::value(completion.error);
  std::FILE* beside = file_ ? file_.get() : stderr;
  write_line(line, audit_ ? audit_.get() : beside);
}

}  // namespace neutrino::server
