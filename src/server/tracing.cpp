#include "server/tracing.h"

#include <algorithm>
#include <chrono>

#include "base/sha256.h"
#include "net/error_body.h"
#include "net/route.h"
#include "server/answer_json.h"

namespace neutrino::server {
namespace {

constexpr size_t kTracedChoices = 16;  // of a request; each makes three spans

int64_t ns_of(double ms) { return static_cast<int64_t>(ms * 1e6); }

// What the request asked for, by both sets of names.
void add_request_attributes(net::Attributes& to, const net::Request& request, const Answer& answer) {
  const InferenceRequest& inference = *answer.request;
  const chat::SamplingParameters& sampling = answer.choices.front().sampling;
  to.emplace_back("gen_ai.request.id", request.id);
  to.emplace_back("gen_ai.request.model", inference.model);
  to.emplace_back("gen_ai.request.n", inference.n);
  to.emplace_back("gen_ai.request.choice.count", inference.n);
  to.emplace_back("gen_ai.request.max_tokens", sampling.max_tokens);
  to.emplace_back("gen_ai.request.temperature", sampling.temperature);
  to.emplace_back("gen_ai.request.top_p", sampling.top_p);
  if (sampling.top_k > 0) to.emplace_back("gen_ai.request.top_k", sampling.top_k);
  if (sampling.seed) to.emplace_back("gen_ai.request.seed", static_cast<int64_t>(*sampling.seed));
  to.emplace_back("gen_ai.request.frequency_penalty", sampling.frequency_penalty);
  to.emplace_back("gen_ai.request.presence_penalty", sampling.presence_penalty);
}

void add_answer_attributes(net::Attributes& to, const Answer& answer) {
  const chat::Usage usage = total_usage(answer);
  to.emplace_back("gen_ai.response.id", answer.id);
  to.emplace_back("gen_ai.response.model", answer.request->model);
  std::vector<std::string> reasons;
  for (const Choice& choice : answer.choices)
    if (choice.finish_reason) reasons.emplace_back(finish_name(choice));
  to.emplace_back("gen_ai.response.finish_reasons", std::move(reasons));
  to.emplace_back("gen_ai.usage.input_tokens", usage.prompt_tokens);
  to.emplace_back("gen_ai.usage.output_tokens", usage.completion_tokens);
  to.emplace_back("gen_ai.usage.cache_read.input_tokens", usage.cached_tokens);
  to.emplace_back("gen_ai.usage.prompt_tokens", usage.prompt_tokens);
  to.emplace_back("gen_ai.usage.completion_tokens", usage.completion_tokens);
}

// vLLM's; seconds.
void add_latencies(net::Attributes& to, const Answer& answer) {
  const chat::Timings timings = total_timings(answer);
  const double queue = timings.queue_ms / 1000, prefill = timings.prefill_ms / 1000,
               decode = timings.decode_ms / 1000;
  to.emplace_back("gen_ai.latency.time_in_queue", queue);
  to.emplace_back("gen_ai.latency.time_to_first_token", queue + prefill);
  to.emplace_back("gen_ai.latency.e2e", queue + prefill + decode);
  to.emplace_back("gen_ai.latency.time_in_model_prefill", prefill);
  to.emplace_back("gen_ai.latency.time_in_model_decode", decode);
  to.emplace_back("gen_ai.latency.time_in_model_inference", prefill + decode);
}

// A choice that did not come to its end has no times.
void add_parts(std::vector<net::TracePart>& parts, const Choice& choice, int64_t submitted_ns) {
  if (!choice.finish_reason) return;
  const chat::Timings& timings = choice.timings;
  const int64_t start = submitted_ns, prefill = start + ns_of(timings.queue_ms);
  const int64_t decode = prefill + ns_of(timings.prefill_ms), end = decode + ns_of(timings.decode_ms);
  const std::pair<std::string, net::AttributeValue> index{"neutrino.choice.index", choice.index};
  parts.push_back({"queue", start, prefill, {index}});
  parts.push_back({"prefill",
                   prefill,
                   decode,
                   {index,
                    {"gen_ai.usage.input_tokens", static_cast<int64_t>(choice.prompt.size())},
                    {"gen_ai.usage.cache_read.input_tokens", choice.usage.cached_tokens}}});
  parts.push_back(
      {"decode", decode, end, {index, {"gen_ai.usage.output_tokens", choice.usage.completion_tokens}}});
}

std::string operation_name(std::string_view path) {
  if (path.find("embed") != path.npos) return "embeddings";
  const bool text = path.ends_with("/completions") && path.find("chat") == path.npos;
  return text ? "text_completion" : "chat";
}

bool is_traced(const net::Request& request, const net::Completion& completion) {
  if (!request.route || completion.status == 401) return false;
  const bool work = request.route->admission == net::Admission::while_serving;
  return work || request.route->auth == net::AuthPolicy::admin;
}

net::Attributes http_attributes(const net::Request& request, const net::Completion& completion) {
  net::Attributes result;
  result.emplace_back("http.request.method", std::string(net::method_name(request.method)));
  result.emplace_back("http.route", std::string(request.route->path));
  result.emplace_back("url.path", net::bounded_text(request.path, 256));
  result.emplace_back("http.response.status_code", int64_t{completion.status});
  result.emplace_back("client.address", request.peer);
  result.emplace_back("neutrino.request_id", request.id);
  if (!request.key_name.empty()) result.emplace_back("neutrino.key", request.key_name);
  if (!completion.error.empty()) result.emplace_back("error.type", completion.error);
  return result;
}

std::string failure_of(const net::Completion& completion) {
  if (!completion.error.empty() && (completion.status >= 500 || completion.truncated))
    return completion.error;
  if (completion.truncated) return "the client left";
  return completion.status == 499 ? "the client left" : "";
}

net::Span root_of(const net::Request& request, const net::Completion& completion,
                  const net::TraceContext& context) {
  net::Span root{.trace_id = context.trace_id,
                 .id = net::new_span_id(),
                 .parent = context.parent,
                 .state = context.state,
                 .name = fmt::format("{} {}", net::method_name(request.method), request.route->path),
                 .kind = net::SpanKind::server,
                 .attributes = http_attributes(request, completion),
                 .error = failure_of(completion)};
  if (completion.trace.empty()) return root;
  root.attributes.emplace_back("gen_ai.operation.name", operation_name(request.route->path));
  root.attributes.emplace_back("gen_ai.provider.name", std::string("neutrino"));
  root.attributes.insert(root.attributes.end(), completion.trace.begin(), completion.trace.end());
  return root;
}

}  // namespace

void trace_answer(net::Response& response, const net::Request& request, const Answer& answer,
                  int64_t submitted_ns) {
  add_request_attributes(response.trace, request, answer);
  add_answer_attributes(response.trace, answer);
  add_latencies(response.trace, answer);
  for (size_t i = 0; i < std::min(answer.choices.size(), kTracedChoices); ++i)
    add_parts(response.trace_parts, answer.choices[i], submitted_ns);
}

std::vector<net::Span> spans_of(const net::Request& request, const net::Completion& completion,
                                int64_t now_ns, int64_t unix_now_ns) {
  if (!is_traced(request, completion)) return {};
  auto context = net::parse_trace_context(request.header("traceparent"), request.header("tracestate"));
  if (context && !context->sampled) return {};
  if (!context) context = net::TraceContext{.trace_id = net::new_trace_id()};
  const int64_t to_unix = unix_now_ns - now_ns;
  std::vector<net::Span> spans{root_of(request, completion, *context)};
  spans[0].start_unix_ns = request.received_ns + to_unix;
  spans[0].end_unix_ns = request.received_ns + completion.duration_ns + to_unix;
  for (const net::TracePart& part : completion.trace_parts)
    spans.push_back({.trace_id = context->trace_id,
                     .id = net::new_span_id(),
                     .parent = spans[0].id,
                     .state = context->state,
                     .name = part.name,
                     .start_unix_ns = part.start_ns + to_unix,
                     .end_unix_ns = part.end_ns + to_unix,
                     .attributes = part.attributes});
  return spans;
}

std::string Tracing::record(const net::Request& request, const net::Completion& completion) {
  const int64_t now_ns = std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  const int64_t unix_ns = std::chrono::system_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
  std::vector<net::Span> spans = spans_of(request, completion, now_ns, unix_ns);
  if (spans.empty()) return {};
  std::string id = to_hex(spans[0].trace_id);
  exporter_.offer(std::move(spans));
  return id;
}

}  // namespace neutrino::server
