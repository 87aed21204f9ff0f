// Traces: spans, the W3C header that carries a trace from caller to callee, and the OTLP message that brings spans to a collector.
//
// https://www.w3.org/TR/trace-context, https://opentelemetry.io/docs/specs/otlp (ExportTraceServiceRequest, protobuf).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace neutrino::net {

using TraceId = std::array<uint8_t, 16>;
using SpanId = std::array<uint8_t, 8>;

TraceId new_trace_id();
SpanId new_span_id();

struct TraceContext {
  TraceId trace_id{};
  SpanId parent{};
  bool sampled = true;
  std::string state;  // of the tracestate header, as it came
};

// The caller's place in its trace; nullopt for an absent or malformed traceparent, which starts a new trace.
std::optional<TraceContext> parse_trace_context(std::string_view traceparent, std::string_view tracestate);

using AttributeValue = std::variant<bool, int64_t, double, std::string, std::vector<std::string>>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

enum class SpanKind : uint8_t { internal = 1, server = 2 };

struct Span {
  TraceId trace_id{};
  SpanId id{};
  SpanId parent{};  // zeros: a root
  std::string state;
  std::string name;
  SpanKind kind = SpanKind::internal;
  int64_t start_unix_ns = 0, end_unix_ns = 0;
  Attributes attributes;
  std::string error;  // what failed; empty: nothing
};

// Serialized ExportTraceServiceRequest: all spans of one resource ("service.name", ...).
std::string otlp_traces(const Attributes& resource, std::span<const Span> spans);

}  // namespace neutrino::net
