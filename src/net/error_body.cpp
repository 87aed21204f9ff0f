#include "net/error_body.h"

#include <algorithm>
#include <array>

#include "base/json.h"
#include "base/limits.h"

namespace neutrino::net {
namespace {

struct ReasonStatus {
  std::string_view reason;
  int status;
};

// Reasons whose status does not follow from the error's code.
constexpr ReasonStatus kReasonStatus[] = {
    {"host_not_allowed", 421},
    {"origin_not_allowed", 403},
    {"headers_too_large", 431},
    {"method_not_allowed", 405},
    {"request_too_large", 413},
    {"unsupported_media_type", 415},
    {"request_timeout", 408},
    {"server_busy", 503},
    {"deadline_exceeded", 504},
    {"etag_mismatch", 412},
    {"invalid_field", 422},
    {"too_old", 410},
    {"in_use", 409},
    {"last_admin", 409},
    {"store_overloaded", 503},
    {"idempotency_key_reused", 409},
};

struct CodeStatus {
  ErrorCode code;
  int status;
  std::string_view reason;  // the body's `code` when the error names none
};

constexpr CodeStatus kCodeStatus[] = {
    {ErrorCode::cancelled, 499, "request_cancelled"},
    {ErrorCode::invalid_argument, 400, "invalid_value"},
    {ErrorCode::deadline_exceeded, 408, "request_timeout"},
    {ErrorCode::not_found, 404, "not_found"},
    {ErrorCode::already_exists, 409, "already_exists"},
    {ErrorCode::permission_denied, 403, "insufficient_scope"},
    {ErrorCode::unauthenticated, 401, "invalid_api_key"},
    {ErrorCode::resource_exhausted, 429, "rate_limit_exceeded"},
    {ErrorCode::failed_precondition, 400, "failed_precondition"},
    {ErrorCode::out_of_range, 400, "invalid_value"},
    {ErrorCode::unimplemented, 400, "unsupported_parameter"},
    {ErrorCode::internal, 500, "internal_error"},
    {ErrorCode::unavailable, 503, "unavailable"},
    {ErrorCode::data_loss, 500, "internal_error"},
};

const CodeStatus& by_code(ErrorCode code) {
  const auto* found = std::find_if(std::begin(kCodeStatus), std::end(kCodeStatus),
                                   [&](const CodeStatus& row) { return row.code == code; });
  check(found != std::end(kCodeStatus), "every ErrorCode has a status");
  return *found;
}

std::string_view error_type(int status) {
  if (status == 401) return "authentication_error";
  if (status == 403) return "permission_error";
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

json::value text_or_null(std::string_view text) {
  if (text.empty()) return nullptr;
  return json::string(text);
}

// Anthropic's words for a status.
std::string_view anthropic_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 408: return "timeout_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 529: return "overloaded_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

// What a client may read: of our own faults only where to look them up.
std::string told_message(const Error& error, int status, std::string_view request_id) {
  if (status == 500)
    return fmt::format("internal error; the server's log has it under request id {}", request_id);
  return bounded_text(error.message(), static_cast<size_t>(limits::kErrorMessageBytes));
}

std::string anthropic_body(const Error& error, int status, std::string_view request_id) {
  json::object fields, body;
  fields["type"] = anthropic_type(status);
  fields["message"] = told_message(error, status, request_id);
  body["type"] = "error";
  body["error"] = std::move(fields);
  body["request_id"] = request_id;
  return to_text(body);
}

// Too much to do, or not able to for now: what Anthropic's clients know as one status of its own.
bool is_overload(const Error& error, int status) {
  return status == 503 || (status == 429 && error.reason() != "rate_limit_exceeded");
}

}  // namespace

int http_status(const Error& error, ErrorShape shape) {
  if (shape == ErrorShape::anthropic) {
    const int status = http_status(error);
    return is_overload(error, status) ? 529 : status;
  }
  for (const ReasonStatus& row : kReasonStatus)
    if (row.reason == error.reason()) return row.status;
  return by_code(error.code()).status;
}

std::string_view status_text(int status) {
  switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 302: return "Found";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 415: return "Unsupported Media Type";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 499: return "Client Closed Request";
    case 500: return "Internal Server Error";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 529: return "Site Is Overloaded";
    default: return "Unknown";
  }
}

std::string bounded_text(std::string_view text, size_t limit) {
  if (text.size() <= limit) return std::string(text);
  size_t end = limit;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;
  return std::string(text.substr(0, end));
}

std::string error_body(const Error& error, std::string_view request_id, ErrorShape shape) {
  const int status = http_status(error, shape);
  if (shape == ErrorShape::anthropic) return anthropic_body(error, status, request_id);
  const bool ours = status == 500;
  const std::string_view reason =
      ours || error.reason().empty() ? by_code(error.code()).reason : error.reason();
  json::object fields;
  fields["message"] = told_message(error, status, request_id);
  fields["type"] = error_type(status);
  fields["param"] = text_or_null(bounded_text(error.param(), 256));
  fields["code"] = text_or_null(reason);
  fields["request_id"] = request_id;
  json::object body;
  body["error"] = std::move(fields);
  return to_text(body);
}

std::string error_event(const Error& error, std::string_view request_id, ErrorShape shape) {
  return fmt::format("{}data: {}\n\n", shape == ErrorShape::anthropic ? "event: error\n" : "",
                     error_body(error, request_id, shape));
}

}  // namespace neutrino::net
