// Errors as HTTP tells them: one table from what went wrong to a status, one shape of body for all of them.
//
// {"error": {"message", "type", "param", "code", "request_id"}}: all keys always there, `param` and `code` a string or null.
// Anthropic's clients get {"type": "error", "error": {"type", "message"}, "request_id"}, and 529 where the server has too much to do.
// What is our own fault is told without detail; the log has it under the request id.
#pragma once

#include <string>
#include <string_view>

#include "base/error.h"
#include "net/route.h"

namespace neutrino::net {

// By the error's reason where that has a status of its own ("host_not_allowed" is 421), else by its code.
int http_status(const Error& error, ErrorShape shape = ErrorShape::openai);

std::string_view status_text(int status);

std::string error_body(const Error& error, std::string_view request_id,
                       ErrorShape shape = ErrorShape::openai);
// The server-sent event that ends a stream with an error.
std::string error_event(const Error& error, std::string_view request_id, ErrorShape shape);

// Cuts `text` to at most `limit` bytes without splitting a character.
std::string bounded_text(std::string_view text, size_t limit);

}  // namespace neutrino::net
