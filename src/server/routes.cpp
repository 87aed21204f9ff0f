#include "server/routes.h"

#include <algorithm>

#include "net/error_body.h"
#include "server/answer_json.h"
#include "server/answer_schemas.h"
#include "server/inference.h"
#include "server/load_report.h"
#include "server/request_fields.h"
#include "server/routes/handlers.h"

namespace neutrino::server {
namespace {

using net::Admission, net::AuthPolicy, net::Method;

constexpr int64_t kSmallBody = 4 << 10;

// clang-format off
constexpr ServerRoute kRoutes[] = {
    {{.method = Method::post, .path = "/v1/chat/completions", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kChatFields, .summary = "Answer a conversation", .answer_schema = kChatAnswer}, routes::chat_completions},
    {{.method = Method::post, .path = "/v1/completions", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kCompletionFields, .summary = "Continue a text", .answer_schema = kCompletionAnswer}, routes::completions},
    {{.method = Method::post, .path = "/v1/embeddings", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kEmbeddingFields, .summary = "Texts to vectors", .answer_schema = kEmbeddingAnswer}, routes::embeddings},
    {{.method = Method::post, .path = "/v1/messages", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kMessagesFields, .summary = "Answer a conversation (Anthropic's API)",
      .errors = net::ErrorShape::anthropic, .answer_schema = kMessagesAnswer}, routes::messages},
    {{.method = Method::post, .path = "/v1/messages/count_tokens", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kCountTokensFields, .summary = "The tokens of such a conversation",
      .errors = net::ErrorShape::anthropic, .answer_schema = kCountTokensAnswer}, routes::count_tokens},
    {{.method = Method::post, .path = "/v1/responses", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kResponsesFields, .summary = "Answer a conversation (OpenAI's newer API), keeping nothing", .answer_schema = kResponsesAnswer},
     routes::responses},
    {{.method = Method::post, .path = "/v1/score", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kScoreFields, .summary = "How well the texts of each pair fit", .answer_schema = kScoreAnswer}, routes::score},
    {{.method = Method::post, .path = "/score", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kScoreFields, .summary = "The same as /v1/score", .answer_schema = kScoreAnswer}, routes::score},
    {{.method = Method::post, .path = "/v1/rerank", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kRerankFields, .summary = "Documents in the order in which they fit a query", .answer_schema = kRerankAnswer}, routes::rerank},
    {{.method = Method::post, .path = "/rerank", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kRerankFields, .summary = "The same as /v1/rerank", .answer_schema = kRerankAnswer}, routes::rerank},
    {{.method = Method::post, .path = "/v2/rerank", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kRerankFields, .summary = "The same as /v1/rerank", .answer_schema = kRerankAnswer}, routes::rerank},
    {{.method = Method::post, .path = "/v1/chat/completions/render", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kChatFields, .summary = "The prompt of a conversation, without an answer", .answer_schema = kRenderChatAnswer}, routes::render_chat},
    {{.method = Method::post, .path = "/v1/completions/render", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kCompletionFields, .summary = "The tokens of prompts, without an answer", .answer_schema = kRenderCompletionsAnswer}, routes::render_completions},
    {{.method = Method::get, .path = "/v1/models", .auth = AuthPolicy::inference, .summary = "The models that are served", .answer_schema = kModelsAnswer}, routes::list_models},
    {{.method = Method::get, .path = "/v1/models/{id}", .auth = AuthPolicy::inference, .summary = "One model", .answer_schema = kModelAnswer}, routes::get_model},
    {{.method = Method::post, .path = "/tokenize", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kTokenizeFields, .summary = "Text or conversation to token ids", .answer_schema = kTokenizeAnswer}, routes::tokenize},
    {{.method = Method::post, .path = "/detokenize", .auth = AuthPolicy::inference, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kDetokenizeFields, .summary = "Token ids to text", .answer_schema = kDetokenizeAnswer}, routes::detokenize},
    {{.method = Method::post, .path = "/v1/load_lora_adapter", .auth = AuthPolicy::admin, .admission = Admission::while_serving,
      .body_bytes = kSmallBody, .fields = kLoadAdapterFields, .summary = "Serve an adapter under a model name of its own",
      .answer = "text/plain"}, routes::load_adapter},
    {{.method = Method::post, .path = "/v1/unload_lora_adapter", .auth = AuthPolicy::admin, .body_bytes = kSmallBody,
      .fields = kUnloadAdapterFields, .summary = "Serve an adapter no longer; running requests keep it", .answer = "text/plain"},
     routes::unload_adapter},
    {{.method = Method::post, .path = "/v1/requests/{id}/cancel", .auth = AuthPolicy::inference, .body_bytes = kSmallBody,
      .summary = "Cancel a request by its X-Request-Id or the id of its answer", .answer_schema = kCancelAnswer}, routes::cancel_request},
    {{.method = Method::post, .path = "/sleep", .auth = AuthPolicy::admin, .body_bytes = kSmallBody,
      .query = R"([{"name":"level","in":"query","required":false,"schema":{"type":"string","enum":["1","2"]}}])",
      .summary = "Finish what runs, refuse what comes, give memory back", .answer_schema = kSleepAnswer}, routes::sleep},
    {{.method = Method::post, .path = "/wake_up", .auth = AuthPolicy::admin, .body_bytes = kSmallBody, .summary = "End of sleep", .answer_schema = kSleepAnswer}, routes::wake_up},
    {{.method = Method::get, .path = "/is_sleeping", .auth = AuthPolicy::admin, .summary = "Does the model sleep?", .answer_schema = kSleepAnswer}, routes::is_sleeping},
    {{.method = Method::get, .path = "/v1/prefixes", .auth = AuthPolicy::admin, .summary = "The prefixes that are kept on disk", .answer_schema = kPrefixesAnswer}, routes::list_prefixes},
    {{.method = Method::delete_, .path = "/v1/prefixes/{id}", .auth = AuthPolicy::admin, .summary = "Forget one", .answer_schema = kPrefixDeletedAnswer}, routes::delete_prefix},
    {{.method = Method::post, .path = "/v1/prefixes/{id}/save", .auth = AuthPolicy::admin, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kPrefixSaveFields, .summary = "Compute a prefix and keep its keys and values on disk", .answer_schema = kPrefixAnswer},
     routes::save_prefix},
    {{.method = Method::post, .path = "/v1/prefixes/{id}/restore", .auth = AuthPolicy::admin, .admission = Admission::while_serving,
      .body_bytes = limits::kBodyBytes, .fields = kPrefixRestoreFields, .summary = "Put a kept prefix into the prefix cache", .answer_schema = kPrefixAnswer},
     routes::restore_prefix},
    {{.method = Method::get, .path = "/v1/health/live", .auth = AuthPolicy::open, .summary = "The process answers", .answer_schema = kStatusAnswer}, routes::live},
    {{.method = Method::get, .path = "/v1/health/ready", .auth = AuthPolicy::open, .summary = "Requests will be served", .answer_schema = kStatusAnswer}, routes::ready},
    {{.method = Method::get, .path = "/health", .auth = AuthPolicy::open, .summary = "The same as /v1/health/ready", .answer_schema = kStatusAnswer}, routes::ready},
    {{.method = Method::get, .path = "/load", .auth = AuthPolicy::inference, .summary = "How busy this replica is", .answer_schema = kLoadAnswer}, routes::load},
    {{.method = Method::get, .path = "/v1/version", .auth = AuthPolicy::inference, .summary = "Version of the server", .answer_schema = kVersionAnswer}, routes::version},
    {{.method = Method::get, .path = "/v1/metadata", .auth = AuthPolicy::inference, .summary = "The model, its memory and its defaults", .answer_schema = kMetadataAnswer}, routes::metadata},
    {{.method = Method::get, .path = "/v1/license", .auth = AuthPolicy::inference, .summary = "The model's license", .answer_schema = kLicenseAnswer}, routes::license},
    {{.method = Method::get, .path = "/v1/manifest", .auth = AuthPolicy::inference, .summary = "The model's files", .answer_schema = kManifestAnswer}, routes::manifest},
    {{.method = Method::get, .path = "/metrics", .auth = AuthPolicy::metrics, .summary = "Prometheus metrics", .answer = "text/plain"}, routes::metrics},
    {{.method = Method::get, .path = "/v1/metrics", .auth = AuthPolicy::metrics, .summary = "The same as /metrics", .answer = "text/plain"}, routes::metrics},
    {{.method = Method::get, .path = "/openapi.json", .auth = AuthPolicy::inference, .summary = "This table as OpenAPI 3.1", .answer_schema = kDocumentAnswer}, routes::openapi},
    {{.method = Method::get, .path = "/v1/files", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::post, .path = "/v1/files", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::get, .path = "/v1/files/{id}", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::delete_, .path = "/v1/files/{id}", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::get, .path = "/v1/files/{id}/content", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::get, .path = "/v1/batches", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::post, .path = "/v1/batches", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::get, .path = "/v1/batches/{id}", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::post, .path = "/v1/batches/{id}/cancel", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::get, .path = "/v1/responses/{id}", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::delete_, .path = "/v1/responses/{id}", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::post, .path = "/v1/responses/{id}/cancel", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
    {{.method = Method::get, .path = "/v1/responses/{id}/input_items", .auth = AuthPolicy::inference, .summary = "Not kept here", .refuses = true}, routes::not_kept},
};
// clang-format on

static_assert(std::all_of(std::begin(kRoutes), std::end(kRoutes),
                          [](const ServerRoute& route) { return has_policy(route.spec); }),
              "every route says who may call it");

// Of requests that do work, when the caller asks for it.
void add_load_header(Services& services, const net::Request& request, net::Response& response) {
  const std::string_view format = request.header("endpoint-load-metrics-format");
  if (format.empty() || request.route->admission != Admission::while_serving) return;
  if (auto report = orca_load(format, services.chat_model.status()))
    response.set_header("endpoint-load-metrics", std::move(*report));
}

// A route without fields takes an empty body, or an object none of whose fields has an effect, which is said.
void note_fields(const net::Request& request, net::Response& response) {
  if (!request.route->fields.empty() || request.route->refuses || request.body.empty()) return;
  std::vector<std::string> ignored;
  net::parse_body(request.body, {}, ignored);
  if (!ignored.empty()) response.set_header("X-Ignored-Params", header_text(joined(ignored, ",")));
}

net::asio::awaitable<void> handle(RouteHandler handler, Services& services, const net::Request& request,
                                  net::Response& response) {
  std::optional<Error> failure;
  add_load_header(services, request, response);
  try {
    note_fields(request, response);
    co_await handler(services, request, response);
  } catch (const Error& error) {
    failure = error;
  }
  if (!failure) co_return;
  add_retry_headers(response, *failure, services.chat_model.status().queue_drain_seconds);
  throw *failure;
}

}  // namespace

std::span<const ServerRoute> route_table() { return kRoutes; }

std::vector<net::Route> bind_routes(Services& services) {
  std::vector<net::Route> routes;
  for (const ServerRoute& route : kRoutes)
    routes.push_back({route.spec, [&services, handler = route.handle](const net::Request& request,
                                                                      net::Response& response) {
                        return handle(handler, services, request, response);
                      }});
  return routes;
}

}  // namespace neutrino::server
