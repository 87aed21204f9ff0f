#include "net/trace.h"

#include <algorithm>

#include "base/random.h"
#include "net/protobuf.h"

namespace neutrino::net {
namespace {

constexpr size_t kTraceparentBytes = 55;  // "00-" 32 hex "-" 16 hex "-" 2 hex
constexpr size_t kTracestateBytes = 512;

// Lower-case hex only, as the standard wants it.
bool read_hex(std::string_view text, std::span<uint8_t> bytes) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
  };
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = digit(text[2 * i]), low = digit(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

bool all_zero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

template <size_t N>
std::array<uint8_t, N> random_bytes() {
  std::array<uint8_t, N> bytes{};
  uint64_t random = 0;
  for (size_t i = 0; i < N; ++i) {
    if (i % 8 == 0) random = system_entropy();
    bytes[i] = static_cast<uint8_t>(random >> (8 * (i % 8)));
  }
  if (all_zero(bytes)) bytes[0] = 1;  // zeros mean "none"
  return bytes;
}

std::string_view as_text(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

ProtobufWriter any_value(const AttributeValue& value) {
  ProtobufWriter message;
  if (const auto* flag = std::get_if<bool>(&value)) message.integer(2, *flag ? 1 : 0);
  if (const auto* number = std::get_if<int64_t>(&value)) message.integer(3, static_cast<uint64_t>(*number));
  if (const auto* real = std::get_if<double>(&value)) message.real(4, *real);
  if (const auto* text = std::get_if<std::string>(&value)) message.bytes(1, *text);
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    ProtobufWriter array;
    for (const std::string& item : *list) array.message(1, any_value(item));
    message.message(5, array);
  }
  return message;
}

void write_attributes(ProtobufWriter& message, int field, const Attributes& attributes) {
  for (const auto& [key, value] : attributes) {
    ProtobufWriter pair;
    pair.bytes(1, key);
    pair.message(2, any_value(value));
    message.message(field, pair);
  }
}

ProtobufWriter write_span(const Span& span) {
  ProtobufWriter message;
  message.bytes(1, as_text(span.trace_id));
  message.bytes(2, as_text(span.id));
  if (!span.state.empty()) message.bytes(3, span.state);
  if (!all_zero(span.parent)) message.bytes(4, as_text(span.parent));
  message.bytes(5, span.name);
  message.integer(6, static_cast<uint64_t>(span.kind));
  message.fixed64(7, static_cast<uint64_t>(span.start_unix_ns));
  message.fixed64(8, static_cast<uint64_t>(span.end_unix_ns));
  write_attributes(message, 9, span.attributes);
  if (!span.error.empty()) {
    ProtobufWriter status;
    status.bytes(2, span.error);
    status.integer(3, 2);  // STATUS_CODE_ERROR
    message.message(15, status);
  }
  return message;
}

}  // namespace

TraceId new_trace_id() { return random_bytes<16>(); }
SpanId new_span_id() { return random_bytes<8>(); }

std::optional<TraceContext> parse_trace_context(std::string_view traceparent, std::string_view tracestate) {
  TraceContext context;
  std::array<uint8_t, 1> version{}, flags{};
  if (traceparent.size() < kTraceparentBytes) return std::nullopt;
  if (traceparent[2] != '-' || traceparent[35] != '-' || traceparent[52] != '-') return std::nullopt;
  if (!read_hex(traceparent.substr(0, 2), version) || version[0] == 0xff) return std::nullopt;
  // A later version may say more, behind another '-'; what this one knows stands where it stood.
  if (traceparent.size() > kTraceparentBytes && (version[0] == 0 || traceparent[kTraceparentBytes] != '-'))
    return std::nullopt;
  if (!read_hex(traceparent.substr(3, 32), context.trace_id) || all_zero(context.trace_id))
    return std::nullopt;
  if (!read_hex(traceparent.substr(36, 16), context.parent) || all_zero(context.parent)) return std::nullopt;
  if (!read_hex(traceparent.substr(53, 2), flags)) return std::nullopt;
  context.sampled = (flags[0] & 1) != 0;
  const bool sane =
      tracestate.size() <= kTracestateBytes &&
      std::all_of(tracestate.begin(), tracestate.end(), [](char c) { return c >= ' ' && c < 127; });
  if (sane) context.state = tracestate;
  return context;
}

std::string otlp_traces(const Attributes& resource, std::span<const Span> spans) {
  ProtobufWriter about, scope, scope_spans, resource_spans, request;
  write_attributes(about, 1, resource);
  scope.bytes(1, "neutrino");
  scope.bytes(2, NEUTRINO_VERSION);
  scope_spans.message(1, scope);
  for (const Span& span : spans) scope_spans.message(2, write_span(span));
  resource_spans.message(1, about);
  resource_spans.message(2, scope_spans);
  request.message(1, resource_spans);
  return request.text();
}

}  // namespace neutrino::net
