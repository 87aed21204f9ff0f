// One table of routes per server. From it come routing, who may call, how large a body may be, the checks of its fields, and
// /openapi.json; a new route is a file with a handler and a line in the table.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "net/api_keys.h"
#include "net/request.h"
#include "net/response.h"
#include "net/schema.h"

namespace neutrino::net {

// Who may call: anyone, or a key with that scope. Deny is what a forgotten policy means: every route must name one of the others
// (has_policy() is asserted at compile time).
enum class AuthPolicy : uint8_t { deny, open, inference, metrics, admin };

// May it start while the server drains?
enum class Admission : uint8_t { while_serving, always };

// Whose clients read the errors: OpenAI's, or Anthropic's (error_body.h).
enum class ErrorShape : uint8_t { openai, anthropic };

struct RouteSpec {
  Method method = Method::get;
  std::string_view
      path;  // "/v1/models/{id}": a {name} stands for one segment, "/files/{path...}" for all that follow
  AuthPolicy auth = AuthPolicy::deny;
  Admission admission = Admission::always;
  int64_t body_bytes = 0;         // limit of the decoded body; 0: takes none
  std::span<const Field> fields;  // of the JSON body; empty: it has none
  std::string_view query =
      {};  // what may stand behind '?', for /openapi.json: a JSON array of its parameters
  std::string_view summary = {};
  std::string_view answer = "application/json";  // content type of the 200
  ErrorShape errors = ErrorShape::openai;
  bool refuses = false;                 // the handler throws whatever is sent: the body is not even read
  std::string_view answer_schema = {};  // JSON Schema of a JSON answer; absent: any object
  bool any_content = false;             // a body of whatever content type
  std::string_view body_schema = {};    // JSON Schema of a JSON body that `fields` does not describe
};

// The scope that a route asks for; `open` and `deny` ask for none.
constexpr Scope required_scope(AuthPolicy policy) {
  switch (policy) {
    case AuthPolicy::metrics: return Scope::metrics;
    case AuthPolicy::admin: return Scope::admin;
    default: return Scope::inference;
  }
}

constexpr bool has_policy(const RouteSpec& spec) { return spec.auth != AuthPolicy::deny; }

using Handler = std::function<asio::awaitable<void>(const Request&, Response&)>;

struct Route {
  RouteSpec spec;
  Handler handle;
  // Before the body is read: throws what refuses the request, and may note the key's name and digest in it.
  std::function<void(Request&, Response&)> admit = {};
};

// Finds the route for a request, and fills request.route and request.parameter. HEAD finds the GET route. Throws
// Error{not_found} for an unknown path and Error{reason method_not_allowed} for a known one with another method.
const Route& find_route(std::span<const Route> routes, Request& request);

// "GET, HEAD, OPTIONS" for a path; empty for an unknown one.
std::string allowed_methods(std::span<const Route> routes, std::string_view path);

// The policy of what stands at a path, whatever the method: `open` only if all of it is; `deny` for an unknown path.
AuthPolicy path_policy(std::span<const Route> routes, std::string_view path);

// Percent-decodes one path segment; false for a malformed escape or a NUL.
bool percent_decode(std::string_view text, std::string& decoded);

// OpenAPI 3.1 document of the table.
std::string openapi_document(std::span<const Route> routes, std::string_view title);

}  // namespace neutrino::net
