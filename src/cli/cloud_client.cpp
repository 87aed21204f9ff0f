#include "cli/cloud_client.h"

#include <chrono>
#include <thread>

#include "base/random.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kAnswerBytes = 64 << 20;
constexpr int64_t kPageItems = 500;
constexpr int64_t kRetryMilliseconds[] = {100, 400, 1000};  // a control plane is back within a second

struct StatusCode {
  int status;
  ErrorCode code;
};
constexpr StatusCode kStatusCodes[] = {
    {400, ErrorCode::invalid_argument},    {401, ErrorCode::unauthenticated},
    {403, ErrorCode::permission_denied},   {404, ErrorCode::not_found},
    {409, ErrorCode::already_exists},      {410, ErrorCode::out_of_range},
    {412, ErrorCode::failed_precondition}, {422, ErrorCode::invalid_argument},
    {429, ErrorCode::resource_exhausted},  {503, ErrorCode::unavailable},
    {504, ErrorCode::deadline_exceeded},
};

ErrorCode code_of(int status) {
  for (const StatusCode& row : kStatusCodes)
    if (row.status == status) return row.code;
  return status >= 500 ? ErrorCode::internal : ErrorCode::failed_precondition;
}

std::string text_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_string() ? std::string(value->get_string()) : "";
}

int64_t integer_of(const json::object& object, std::string_view key) {
  const json::value* value = object.if_contains(key);
  return value && value->is_int64() ? value->get_int64() : 0;
}

json::value parse_answer(const net::FetchResponse& response) {
  if (response.body.empty()) return nullptr;
  try {
    return parse_json(response.body);
  } catch (const Error&) {
    throw make_error(ErrorCode::data_loss, "{} answers {} without JSON: is it a control plane of neutrino?",
                     response.url.origin(), response.status);
  }
}

Error nobody_answers(const Error& error, const std::string& server) {
  return make_error(ErrorCode::unavailable,
                    "no control plane answers at {} ({}); is `neutrino up` running there?", server,
                    error.message());
}

// What a sign-in would cure says so; a sign-in itself does not.
Error refusal(const net::FetchResponse& response) {
  const Error error = api_error(response.status, response.body);
  const bool signs_in = response.url.path().find("/login/") != std::string::npos;
  if (error.code() != ErrorCode::unauthenticated || signs_in) return error;
  return Error(error.code(), error.message() + "; `neutrino login` signs in").with_reason(error.reason());
}

bool is_success(int status) { return status >= 200 && status < 300; }

}  // namespace

std::string item_path(std::string_view collection, std::string_view name) {
  return fmt::format("/{}/{}", collection, net::percent_encode(name));
}

Error api_error(int status, const std::string& body) {
  json::object fields;
  try {
    fields = parse_json(body).as_object().at("error").as_object();
  } catch (const std::exception&) {
    return make_error(code_of(status), "the control plane answers {} without saying why", status);
  }
  std::string message = text_of(fields, "message"), param = text_of(fields, "param");
  if (!param.empty() && message.find(param) == message.npos) message = fmt::format("{}: {}", param, message);
  return Error(code_of(status), message).with_reason(text_of(fields, "code")).with_param(param);
}

CloudClient::CloudClient(Context context) : context_(std::move(context)) {}

net::FetchRequest CloudClient::request(std::string_view path, const Query& query) const {
  std::string url = context_.server;
  while (url.ends_with('/')) url.pop_back();
  url += "/api/v1";
  url += path;
  for (char separator = '?'; const auto& [name, value] : query) {
    url += fmt::format("{}{}={}", separator, net::percent_encode(name), net::percent_encode(value));
    separator = '&';
  }
  net::FetchRequest request{.url = net::Url::parse(url), .body_bytes_max = kAnswerBytes};
  if (!context_.token.empty()) request.authorization = "Bearer " + context_.token;
  if (!context_.workspace.empty()) request.headers.emplace_back("X-Workspace", context_.workspace);
  return request;
}

// Throws for what is no success. Reads may be asked again, and so may writes with their Idempotency-Key.
net::FetchResponse CloudClient::fetch(net::FetchRequest request) {
  for (const int64_t wait_ms : kRetryMilliseconds) {
    try {
      net::FetchResponse response = fetcher_.send(request);
      if (is_success(response.status)) return response;
      if (response.status != 503) throw refusal(response);
    } catch (const Error& error) {
      if (!net::is_passing(error)) throw;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(wait_ms));
  }
  try {
    net::FetchResponse response = fetcher_.send(request);
    if (!is_success(response.status)) throw refusal(response);
    return response;
  } catch (const Error& error) {
    if (net::is_passing(error)) throw nobody_answers(error, context_.server);
    throw;
  }
}

json::value CloudClient::get(std::string_view path, const Query& query) {
  return parse_answer(fetch(request(path, query)));
}

std::string CloudClient::get_text(std::string_view path, const Query& query) {
  return fetch(request(path, query)).body;
}

std::optional<json::value> CloudClient::find(std::string_view path) {
  try {
    return get(path);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::not_found) return std::nullopt;
    throw;
  }
}

Listing CloudClient::list(std::string_view path, Query query, int64_t items_max) {
  query.emplace_back("limit", std::to_string(items_max > 0 ? std::min(items_max, kPageItems) : kPageItems));
  const size_t plain_size = query.size();
  Listing all;
  for (;;) {
    const json::value page = get(path, query);
    const json::value* items = page.is_object() ? page.get_object().if_contains("items") : nullptr;
    if (!items || !items->is_array())
      throw make_error(ErrorCode::data_loss, "{} is no list of this server", path);
    if (query.size() == plain_size) all.seq = integer_of(page.get_object(), "seq");
    for (const json::value& item : items->get_array()) all.items.push_back(item);
    const std::string next = text_of(page.get_object(), "next");
    if (next.empty() || (items_max > 0 && std::ssize(all.items) >= items_max)) return all;
    query.resize(plain_size);
    query.emplace_back("after", next);
  }
}

json::value CloudClient::write(std::string_view method, std::string_view path, const json::value& body,
                               const WriteOptions& options) {
  net::FetchRequest request = this->request(path, options.dry_run ? Query{{"dry_run", "true"}} : Query{});
  request.method = method;
  request.headers.emplace_back("Idempotency-Key",
                               fmt::format("cli-{:016x}{:016x}", system_entropy(), system_entropy()));
  if (options.etag > 0) request.headers.emplace_back("If-Match", fmt::format("\"{}\"", options.etag));
  if (!body.is_null()) {
    request.headers.emplace_back("Content-Type", "application/json");
    request.body = to_text(body);
  }
  return parse_answer(fetch(std::move(request)));
}

}  // namespace neutrino::cli
