// Where traces go: --otlp-endpoint and the environment variables that OpenTelemetry's own SDKs read.
#pragma once

#include <optional>
#include <string>

#include "net/trace_exporter.h"

namespace neutrino::cli {

// OTEL_EXPORTER_OTLP_{TRACES_,}ENDPOINT, _HEADERS and _PROTOCOL, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES, OTEL_SDK_DISABLED,
// OTEL_TRACES_EXPORTER. `endpoint`, if not empty, comes before the environment. Absent: no traces. Throws
// Error{invalid_argument} for a value that is not understood, and for a protocol that is not http/protobuf.
std::optional<net::TraceExporterOptions> trace_options(const std::string& endpoint, const std::string& model);

}  // namespace neutrino::cli
