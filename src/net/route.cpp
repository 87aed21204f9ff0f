#include "net/route.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/error.h"
#include "net/error_body.h"

namespace neutrino::net {
namespace {

std::string_view next_segment(std::string_view& path) {
  const size_t slash = path.find('/');
  const std::string_view segment = path.substr(0, slash);
  path = slash == std::string_view::npos ? std::string_view() : path.substr(slash);
  return segment;
}

// The parameter's value (empty for a pattern without one) when `path` has the shape of `pattern`.
std::optional<std::string> match(std::string_view pattern, std::string_view path) {
  std::string parameter;
  while (!pattern.empty() && !path.empty()) {
    if (pattern[0] != '/' || path[0] != '/') return std::nullopt;
    pattern.remove_prefix(1);
    path.remove_prefix(1);
    const std::string_view rest = path;
    const std::string_view want = next_segment(pattern), have = next_segment(path);
    if (want.starts_with('{') && want.ends_with("...}"))
      return pattern.empty() && !have.empty() ? std::optional<std::string>(rest) : std::nullopt;
    if (!want.starts_with('{')) {
      if (want != have) return std::nullopt;
    } else if (have.empty() || !percent_decode(have, parameter)) {
      return std::nullopt;
    }
  }
  if (!pattern.empty() || !path.empty()) return std::nullopt;
  return parameter;
}

bool serves(Method have, Method want) {
  return have == want || (have == Method::get && want == Method::head);
}

json::object media(json::value schema) {
  json::object result;
  result["schema"] = std::move(schema);
  return result;
}

json::value answer_schema(const RouteSpec& spec) {
  if (!spec.answer_schema.empty()) return json::parse(json::string_view(spec.answer_schema));
  return json::object{{"type", spec.answer == "application/json" ? "object" : "string"}};
}

// The 200. A route whose body may ask for a stream answers with events, too.
json::object answer_response(const RouteSpec& spec) {
  json::object response, content;
  content[spec.answer] = media(answer_schema(spec));
  const bool streams = std::any_of(spec.fields.begin(), spec.fields.end(),
                                   [](const Field& field) { return field.name == "stream"; });
  if (streams) content["text/event-stream"] = media(json::object());  // events, with a name or without
  response["description"] = "the answer";
  response["content"] = std::move(content);
  return response;
}

json::object error_response(ErrorShape shape) {
  json::object response, content;
  const bool anthropic = shape == ErrorShape::anthropic;
  content["application/json"] = media(json::object{
      {"$ref", anthropic ? "#/components/schemas/AnthropicError" : "#/components/schemas/Error"}});
  response["description"] = "an error";
  response["content"] = std::move(content);
  return response;
}

json::value body_schema(const RouteSpec& spec) {
  if (!spec.body_schema.empty()) return json::parse(json::string_view(spec.body_schema));
  return json_schema(spec.fields);
}

json::object operation(const RouteSpec& spec) {
  json::object result, responses;
  result["summary"] = spec.summary;
  std::string id(method_name(spec.method));
  for (const char c : spec.path) id += std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  result["operationId"] = id;
  json::array parameters =
      spec.query.empty() ? json::array() : json::parse(json::string_view(spec.query)).as_array();
  if (const size_t open = spec.path.find('{'); open != std::string_view::npos) {
    const size_t close = spec.path.find('}');
    std::string_view name = spec.path.substr(open + 1, close - open - 1);
    if (name.ends_with("...")) name.remove_suffix(3);
    parameters.push_back(json::object{
        {"name", json::string(name)}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}});
  }
  if (!parameters.empty()) result["parameters"] = std::move(parameters);
  if (!spec.fields.empty() || !spec.body_schema.empty()) {
    json::object body, content;
    content["application/json"] = media(body_schema(spec));
    body["required"] = true;
    body["content"] = std::move(content);
    result["requestBody"] = std::move(body);
  }
  responses["200"] = answer_response(spec);
  responses["default"] = error_response(spec.errors);
  result["responses"] = std::move(responses);
  if (spec.auth == AuthPolicy::open) result["security"] = json::array();
  return result;
}

json::object components() {
  const json::value error = {{"type", "object"},
                             {"required", {"error"}},
                             {"properties",
                              {{"error",
                                {{"type", "object"},
                                 {"required", {"message", "type", "param", "code", "request_id"}},
                                 {"properties",
                                  {{"message", {{"type", "string"}}},
                                   {"type", {{"type", "string"}}},
                                   {"param", {{"type", json::array{"string", "null"}}}},
                                   {"code", {{"type", json::array{"string", "null"}}}},
                                   {"request_id", {{"type", "string"}}}}}}}}}};
  const json::value anthropic_error = {
      {"type", "object"},
      {"required", {"type", "error", "request_id"}},
      {"properties",
       {{"type", {{"const", "error"}}},
        {"error",
         {{"type", "object"},
          {"required", {"type", "message"}},
          {"properties", {{"type", {{"type", "string"}}}, {"message", {{"type", "string"}}}}}}},
        {"request_id", {{"type", "string"}}}}}};
  const json::value usage = {{"type", "object"},
                             {"required", {"prompt_tokens", "completion_tokens", "total_tokens"}},
                             {"properties",
                              {{"prompt_tokens", {{"type", "integer"}}},
                               {"completion_tokens", {{"type", "integer"}}},
                               {"total_tokens", {{"type", "integer"}}}}}};
  json::object schemas, schemes, result;
  schemas["Error"] = error;
  schemas["AnthropicError"] = anthropic_error;
  schemas["Usage"] = usage;
  schemes["key"] = {{"type", "http"}, {"scheme", "bearer"}};
  result["schemas"] = std::move(schemas);
  result["securitySchemes"] = std::move(schemes);
  return result;
}

}  // namespace

std::string_view method_name(Method method) {
  switch (method) {
    case Method::get: return "GET";
    case Method::head: return "HEAD";
    case Method::post: return "POST";
    case Method::put: return "PUT";
    case Method::patch: return "PATCH";
    case Method::delete_: return "DELETE";
    case Method::options: return "OPTIONS";
    case Method::other: return "OTHER";
  }
  return "OTHER";
}

std::string_view Request::header(std::string_view name) const {
  for (const Header& header : headers)
    if (header.name == name) return header.value;
  return {};
}

bool percent_decode(std::string_view text, std::string& decoded) {
  decoded.clear();
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return false;
      unsigned value = 0;
      const auto [end, error] = std::from_chars(text.data() + i + 1, text.data() + i + 3, value, 16);
      if (error != std::errc() || end != text.data() + i + 3) return false;
      c = static_cast<char>(value);
      i += 2;
    }
    if (c == '\0') return false;
    decoded += c;
  }
  return true;
}

std::string allowed_methods(std::span<const Route> routes, std::string_view path) {
  std::string methods;
  for (const Route& route : routes) {
    if (!match(route.spec.path, path)) continue;
    methods += std::string(method_name(route.spec.method)) + ", ";
    if (route.spec.method == Method::get) methods += "HEAD, ";
  }
  return methods.empty() ? methods : methods + "OPTIONS";
}

AuthPolicy path_policy(std::span<const Route> routes, std::string_view path) {
  AuthPolicy policy = AuthPolicy::deny;
  for (const Route& route : routes)
    if (match(route.spec.path, path) && (policy == AuthPolicy::deny || policy == AuthPolicy::open))
      policy = route.spec.auth;
  return policy;
}

const Route& find_route(std::span<const Route> routes, Request& request) {
  bool known = false;
  for (const Route& route : routes) {
    auto parameter = match(route.spec.path, request.path);
    known = known || parameter;
    if (!parameter || !serves(route.spec.method, request.method)) continue;
    request.parameter = std::move(*parameter);
    request.route = &route.spec;
    return route;
  }
  if (known)
    throw Error(ErrorCode::invalid_argument,
                "this path does not take that method; the Allow header lists those it takes")
        .with_reason("method_not_allowed");
  throw make_error(ErrorCode::not_found, "there is no route for {:.200}; /openapi.json lists all",
                   request.path)
      .with_reason("route_not_found");
}

std::string openapi_document(std::span<const Route> routes, std::string_view title) {
  json::object document, info, paths;
  for (const Route& route : routes) {
    if (!paths.contains(route.spec.path)) paths[route.spec.path] = json::object();
    std::string method(method_name(route.spec.method));
    std::transform(method.begin(), method.end(), method.begin(),
                   [](unsigned char c) { return std::tolower(c); });
    paths[route.spec.path].as_object()[method] = operation(route.spec);
  }
  info["title"] = title;
  info["version"] = NEUTRINO_VERSION;
  document["openapi"] = "3.1.0";
  document["info"] = std::move(info);
  document["security"] = {{{"key", json::array()}}};
  document["paths"] = std::move(paths);
  document["components"] = components();
  return to_text(document);
}

}  // namespace neutrino::net
