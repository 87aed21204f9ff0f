// A request as spans: one for the request as its client saw it, and under it queue, prefill and decode of each choice.
//
// Attributes have the names of OpenTelemetry's conventions for generative AI and those that vLLM gives its spans. Prompts and
// answers are never in them.
#pragma once

#include <string>

#include "net/response.h"
#include "net/server.h"
#include "net/trace_exporter.h"
#include "server/inference.h"

namespace neutrino::server {

// What the trace is to say of an answer, however it ended. `submitted_ns`: monotonic.
void trace_answer(net::Response& response, const net::Request& request, const Answer& answer,
                  int64_t submitted_ns);

class Tracing {
 public:
  Tracing(net::TraceExporterOptions options, Metrics& metrics) : exporter_(std::move(options), metrics) {}

  // Spans of a request that ended: one that asked for work or administration, with a good key, and whose caller samples its
  // trace. Returns the trace's id in hex; empty: no spans.
  std::string record(const net::Request& request, const net::Completion& completion);

 private:
  net::TraceExporter exporter_;
};

// The spans alone; empty as above.
std::vector<net::Span> spans_of(const net::Request& request, const net::Completion& completion,
                                int64_t now_ns, int64_t unix_now_ns);

}  // namespace neutrino::server
