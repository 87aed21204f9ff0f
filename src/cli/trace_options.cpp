#include "cli/trace_options.h"

#include <unistd.h>

#include <cstdlib>

#include "base/error.h"
#include "net/url.h"

namespace neutrino::cli {
namespace {

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

std::string first_of(const char* specific, const char* general) {
  std::string value = environment(specific);
  return value.empty() ? environment(general) : value;
}

// The variable for traces alone holds the whole URL, the general one and the flag a base.
std::string url_of(const std::string& endpoint) {
  if (!endpoint.empty()) return net::traces_url(endpoint);
  const std::string whole = environment("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  if (!whole.empty()) return net::Url::parse(whole).text();
  const std::string base = environment("OTEL_EXPORTER_OTLP_ENDPOINT");
  return base.empty() ? "" : net::traces_url(base);
}

net::Attributes resource_of(const std::string& model) {
  net::Attributes resource = {{"service.version", std::string(NEUTRINO_VERSION)},
                              {"process.pid", int64_t{::getpid()}},
                              {"neutrino.model", model}};
  std::string service = "neutrino";
  for (auto& [name, value] :
       net::parse_pairs("OTEL_RESOURCE_ATTRIBUTES", environment("OTEL_RESOURCE_ATTRIBUTES")))
    if (name == "service.name")
      service = value;
    else
      resource.emplace_back(name, value);
  if (const std::string given = environment("OTEL_SERVICE_NAME"); !given.empty()) service = given;
  resource.emplace_back("service.name", service);
  return resource;
}

}  // namespace

std::optional<net::TraceExporterOptions> trace_options(const std::string& endpoint,
                                                       const std::string& model) {
  const bool off =
      environment("OTEL_SDK_DISABLED") == "true" || environment("OTEL_TRACES_EXPORTER") == "none";
  if (endpoint.empty() && off) return std::nullopt;
  const std::string url = url_of(endpoint);
  if (url.empty()) return std::nullopt;
  const std::string protocol = first_of("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL");
  if (!protocol.empty() && protocol != "http/protobuf")
    throw make_error(ErrorCode::invalid_argument,
                     "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, got \"{}\"", protocol);
  const std::string headers = first_of("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS");
  return net::TraceExporterOptions{.url = url,
                                   .headers = net::parse_pairs("OTEL_EXPORTER_OTLP_HEADERS", headers),
                                   .resource = resource_of(model)};
}

}  // namespace neutrino::cli
