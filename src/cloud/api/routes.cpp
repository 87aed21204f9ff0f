#include "cloud/api/routes.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/sha256.h"
#include "cloud/api/audit.h"
#include "cloud/api/caller.h"
#include "cloud/api/query.h"
#include "cloud/limits.h"
#include "cloud/secret_box.h"
#include "net/error_body.h"
#include "net/presented_key.h"
#include "store/idempotency.h"

// g++ 12 at -O1 takes a coroutine frame's own operator delete for a stranger's.
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"

namespace neutrino::cloud {
namespace {

using net::Method;
using net::Request;
using net::Response;
using store::Transaction;

bool is_read(Method method) { return method == Method::get || method == Method::head; }

// Ends a dry run: the transaction is undone, and the answer is what would have been.
struct DryRunDone {};

json::value body_of(const Request& request) {
  if (request.body.empty()) return nullptr;
  return parse_json(request.body);
}

void check_content_type(const Request& request) {
  const std::string_view type = request.header("content-type");
  if (request.body.empty() || type.starts_with("application/json") ||
      type.starts_with("application/merge-patch+json"))
    return;
  throw make_error(ErrorCode::invalid_argument, "Content-Type must be application/json, got \"{:.100}\"",
                   type)
      .with_reason("unsupported_media_type");
}

// What a handler finds wrong with a field is the body's fault: 422, with the field's path.
template <typename Work>
void about_fields(const Request& request, Work work) {
  try {
    work();
  } catch (const Error& error) {
    const bool of_body = error.code() == ErrorCode::invalid_argument && error.reason().empty() &&
                         !error.param().empty() && !is_read(request.method);
    if (!of_body) throw;
    throw Error(error.code(), error.message()).with_param(error.param()).with_reason("invalid_field");
  }
}

std::string role_wanted(Needs needs) {
  switch (needs) {
    case Needs::viewer: return "the role viewer";
    case Needs::user: return "the role user";
    case Needs::admin: return "the role admin";
    default: return "a member or key with platform set";
  }
}

// ---- answers that are kept under an Idempotency-Key

std::string answer_text(const ApiAnswer& answer) {
  json::array headers;
  for (const net::Header& header : answer.headers) headers.push_back(json::array{header.name, header.value});
  return to_text(json::object{{"status", answer.status},
                              {"body", answer.body},
                              {"text", answer.text},
                              {"content_type", answer.content_type},
                              {"headers", std::move(headers)}});
}

ApiAnswer answer_from(std::string_view text) {
  const json::value kept = parse_json(text);
  const bool is_json = kept.at("content_type").as_string() == "application/json";
  ApiAnswer answer{.status = static_cast<int>(kept.at("status").as_int64()),
                   .body = kept.at("body"),
                   .text = std::string(kept.at("text").as_string()),
                   .content_type = is_json ? "application/json" : "text/plain"};
  for (const json::value& header : kept.at("headers").as_array())
    answer.headers.push_back({std::string(header.at(0).as_string()), std::string(header.at(1).as_string())});
  answer.headers.push_back({"Idempotent-Replayed", "true"});
  return answer;
}

// Of all that makes it the same request, and of who asks: nobody gets an answer that was another's.
std::string request_digest(const ApiCall& call) {
  const std::string text = fmt::format("{}\n{}\n{}\n{}\n{}", net::method_name(call.http.method),
                                       call.http.path, call.http.query, call.caller.actor, call.http.body);
  return to_hex(sha256(text));
}

// ---- around a handler

class Frame {
 public:
  Frame(const ApiServices& services, net::Workers& workers, FindCaller find_caller)
      : services_(services), workers_(workers), find_caller_(std::move(find_caller)) {}

  asio::awaitable<void> serve(const ApiRoute& route, const Request& request, Response& response) const;

 private:
  ApiAnswer run(const ApiRoute& route, ApiCall& call) const;
  void open(const ApiRoute& route, ApiCall& call) const;
  void check_caller(const ApiRoute& route, ApiCall& call) const;
  ApiAnswer read(const ApiRoute& route, ApiCall& call) const;
  ApiAnswer write(const ApiRoute& route, const ApiCall& call) const;
  ApiAnswer write_in(const ApiRoute& route, ApiCall& call, Transaction& transaction) const;
  void note_refusal(const ApiCall& call, const Error& error) const;

  const ApiServices& services_;
  net::Workers& workers_;
  const FindCaller find_caller_;
};

void send(const ApiAnswer& answer, Response& response) {
  for (const net::Header& header : answer.headers) response.set_header(header.name, header.value);
  if (answer.body.is_object())
    if (const json::value* etag = answer.body.get_object().if_contains("etag"); etag && etag->is_int64())
      response.set_header("ETag", fmt::format("\"{}\"", etag->get_int64()));
  response.set_header("Cache-Control", "no-store");
  response.send(answer.status, answer.body.is_null() ? answer.text : to_text(answer.body),
                answer.content_type);
}

asio::awaitable<void> Frame::serve(const ApiRoute& route, const Request& request, Response& response) const {
  ApiCall call{.http = request, .now_ms = services_.clock.unix_ms(), .workers = &workers_};
  call.check_caller = [this, &route, &call] { check_caller(route, call); };
  ApiAnswer answer;
  try {
    co_await workers_.run([&] { answer = run(route, call); });
  } catch (const Error& error) {
    if (net::http_status(error) == 503) response.set_header("Retry-After", "1");
    throw;
  }
  if (route.raw) co_return co_await route.raw(call, response);
  send(answer, response);
}

ApiAnswer Frame::run(const ApiRoute& route, ApiCall& call) const {
  try {
    open(route, call);
    if (route.raw) return {};
    return is_read(call.http.method) ? read(route, call) : write(route, call);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::permission_denied) note_refusal(call, error);
    throw;
  }
}

void Frame::open(const ApiRoute& route, ApiCall& call) const {
  check_caller(route, call);
  call.query = parse_query(call.http.query);
  if (!is_read(call.http.method)) allow_only(call.query, {"dry_run"});
  check_content_type(call.http);
  call.body = body_of(call.http);
  if (route.prepare) about_fields(call.http, [&] { route.prepare(call); });
}

void Frame::check_caller(const ApiRoute& route, ApiCall& call) const {
  if (route.needs == Needs::nothing) return;
  call.caller = services_.database.read([&](Transaction& transaction) {
    return find_caller_(call.http, transaction, services_.tables, services_.clock.unix_ms(),
                        net::peer_address(call.http));
  });
  if (allows(call.caller, route.needs)) return;
  throw make_error(ErrorCode::permission_denied, "this needs {}, which {} has not", role_wanted(route.needs),
                   call.caller.actor)
      .with_reason("insufficient_role");
}

ApiAnswer Frame::read(const ApiRoute& route, ApiCall& call) const {
  return services_.database.read([&](Transaction& transaction) {
    ApiCall copy = call;
    return route.handle(copy, transaction);
  });
}

ApiAnswer Frame::write(const ApiRoute& route, const ApiCall& call) const {
  const bool dry_run = query_flag(call.query, "dry_run");
  ApiAnswer answer;
  try {
    services_.database.write([&](Transaction& transaction) {
      ApiCall copy = call;  // the work may run more than once
      answer = write_in(route, copy, transaction);
      if (dry_run) throw DryRunDone{};
    });
  } catch (const DryRunDone&) {
  }
  return answer;
}

ApiAnswer Frame::write_in(const ApiRoute& route, ApiCall& call, Transaction& transaction) const {
  const std::string key(call.http.header("idempotency-key"));
  const bool keeps = !key.empty() && route.needs != Needs::nothing && !query_flag(call.query, "dry_run");
  const store::IdempotencyKey named{
      .workspace = call.caller.workspace, .key = key, .request_sha256 = request_digest(call)};
  const std::string context = "answer:" + call.caller.workspace + ":" + key;
  if (keeps)
    if (const auto kept = find_answer(transaction, named, call.now_ms))
      return answer_from(services_.secrets.open(*kept, context));
  ApiAnswer answer;
  about_fields(call.http, [&] { answer = route.handle(call, transaction); });
  note_call(transaction, services_.tables, call, {.status = answer.status});
  if (keeps)
    store_answer(transaction, named, services_.secrets.seal(answer_text(answer), context), call.now_ms);
  return answer;
}

// In a transaction of its own, for the call's was undone or never began. What was refused stays refused if this fails.
void Frame::note_refusal(const ApiCall& call, const Error& error) const {
  try {
    services_.database.write([&](Transaction& transaction) {
      ApiCall copy = call;
      if (copy.caller.actor.empty()) copy.caller = holder_of(transaction, services_.tables, call.http);
      note_call(transaction, services_.tables, copy,
                {.status = net::http_status(error), .message = error.message()});
    });
  } catch (const Error& failure) {
    spdlog::warn("a refusal is missing in the audit log id={} error=\"{}\"", call.http.id, failure.message());
  }
}

// Before the body is read: who brings no key gets nothing read. Whether it is a good one is asked on a worker.
void require_token(Request& request, Response&) {
  if (net::presented_key(request).empty())
    throw Error(ErrorCode::unauthenticated, "an API key is required: Authorization: Bearer KEY")
        .with_reason("missing_key");
}

net::Route fixed_answer(std::string_view path, std::string_view summary, std::string text) {
  return {{.method = Method::get, .path = path, .auth = net::AuthPolicy::open, .summary = summary},
          [text = std::move(text)](const Request&, Response& response) -> asio::awaitable<void> {
            response.send(200, text);
            co_return;
          }};
}

// ---- the document

constexpr std::string_view kWriteParameters = R"([
  {"name": "dry_run", "in": "query", "description": "answer what would be, and change nothing", "schema": {"type": "boolean"}},
  {"name": "Idempotency-Key", "in": "header", "description": "asked again under it, the first answer comes again", "schema": {"type": "string"}},
  {"name": "If-Match", "in": "header", "description": "an etag: only if the object is still so", "schema": {"type": "string"}}])";

// Under the status that the route has for a success; PUT also makes what is not there.
void name_success(const ApiRoute& route, json::object& responses) {
  json::value success = responses.at("200");
  if (route.answer_status == 204) success.as_object().erase("content");
  if (route.spec.method != Method::put) responses.erase("200");
  responses[route.spec.method == Method::put ? "201" : std::to_string(route.answer_status)] =
      std::move(success);
}

// net's document, with the statuses that these routes answer with.
std::string document_of(const std::vector<ApiRoute>& table, std::vector<net::Route> routes) {
  for (net::Route& route : routes)
    if (route.admit) route.spec.auth = net::AuthPolicy::admin;  // it needs a key
  json::value document = parse_json(net::openapi_document(routes, "neutrino cloud"));
  for (const ApiRoute& route : table) {
    std::string method(net::method_name(route.spec.method));
    std::ranges::transform(method, method.begin(), [](unsigned char c) { return std::tolower(c); });
    json::value& operation = document.at("paths").at(route.spec.path).at(method);
    name_success(route, operation.at("responses").as_object());
  }
  return to_text(document);
}

net::Route route_of(const std::shared_ptr<const Frame>& frame, const std::shared_ptr<const ApiRoute>& from) {
  const bool is_write = !is_read(from->spec.method);
  net::Route route{.spec = from->spec, .handle = [frame, from](const Request& request, Response& response) {
                     return frame->serve(*from, request, response);
                   }};
  route.spec.auth = net::AuthPolicy::open;  // its keys are rows, not the server's
  route.spec.any_content = true;
  if (is_write && route.spec.method != Method::delete_ && route.spec.body_bytes == 0)
    route.spec.body_bytes = limits::kApiBodyBytes;
  if (is_write && from->handle && route.spec.query.empty()) route.spec.query = kWriteParameters;
  if (from->needs != Needs::nothing) route.admit = require_token;
  return route;
}

}  // namespace

std::vector<net::Route> make_api_routes(const ApiServices& services, net::Workers& workers,
                                        std::vector<ApiRoute> table, FindCaller find) {
  const auto frame = std::make_shared<const Frame>(services, workers, std::move(find));
  std::vector<net::Route> routes;
  for (const ApiRoute& route : table)
    routes.push_back(route_of(frame, std::make_shared<const ApiRoute>(route)));
  routes.push_back(fixed_answer("/health", "whether the control plane answers", R"({"status":"ok"})"));
  routes.push_back(fixed_answer("/api/v1/openapi.json", "this document", document_of(table, routes)));
  return routes;
}

}  // namespace neutrino::cloud
