// Sends spans to an OpenTelemetry collector: POST of protobuf to ENDPOINT/v1/traces, from a thread of its own.
//
// A request never waits for it. Finished spans go into a bounded queue; what does not fit is dropped and counted, and so is what
// the collector did not take after a few attempts.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/metrics.h"
#include "net/limits.h"
#include "net/trace.h"

namespace neutrino::net {

struct TraceExporterOptions {
  std::string url;                                           // of the traces themselves: .../v1/traces
  std::vector<std::pair<std::string, std::string>> headers;  // "Authorization" and the like
  Attributes resource;                                       // "service.name", ...
  int64_t queue_spans = limits::kTraceSpansQueued;
  int64_t interval_ms = limits::kTraceMillisecondsBetweenExports;
};

// The URL for an endpoint as OTEL_EXPORTER_OTLP_ENDPOINT has it: the base, to which /v1/traces is added unless it is there. Throws
// Error{invalid_argument} for what is no http or https URL.
std::string traces_url(std::string_view endpoint);

// "key=value,key2=value2" of OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES, percent-decoded. Throws
// Error{invalid_argument} that names `what`.
std::vector<std::pair<std::string, std::string>> parse_pairs(std::string_view what, std::string_view text);

class TraceExporter {
 public:
  TraceExporter(TraceExporterOptions options, Metrics& metrics);
  ~TraceExporter();  // sends what is queued, within two seconds

  void offer(std::vector<Span> spans);  // any thread; never blocks for longer than a lock

 private:
  struct Post;
  void run();
  std::vector<Span> take_batch();
  void send(const std::vector<Span>& batch);
  bool wait_for_retry(int attempt);
  bool stopping() const;

  const TraceExporterOptions options_;
  Counter &sent_, &dropped_full_, &dropped_failed_;
  mutable std::mutex mutex_;  // guards the three below
  std::deque<Span> queue_;
  bool stopping_ = false;
  std::condition_variable changed_;
  std::unique_ptr<Post> post_;  // exporter thread only, as the next
  bool failing_ = false;        // the last batch was not taken
  std::thread thread_;
};

}  // namespace neutrino::net
