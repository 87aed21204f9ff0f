// One HTTP request as the routes see it: plain data, without the library that parsed it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"

namespace neutrino::net {

enum class Method : uint8_t { get, head, post, put, patch, delete_, options, other };

std::string_view method_name(Method method);

struct Header {
  std::string name;   // lower case
  std::string value;  // without surrounding white space
};

struct RouteSpec;
class RateLimit;

struct Request {
  Method method = Method::get;
  std::string path;   // as sent, without the query
  std::string query;  // after '?', as sent
  std::vector<Header> headers;
  std::string body;  // decoded from chunks; bounded by the route's limit
  std::string
      parameter;   // what the {name} of the route's path stands for, percent-decoded; of a {name...} as sent
  std::string id;  // the client's X-Request-Id if it is a sane one, else ours
  std::string key_name;                   // which API key; empty when none was needed
  Sha256Digest key_digest{};              // of that key
  std::shared_ptr<RateLimit> rate_limit;  // of that key; null: it has none
  std::string peer;                       // the client's address and port
  const RouteSpec* route = nullptr;       // null for what was refused before routing
  int64_t received_ns = 0;                // monotonic, when the header was complete

  std::string_view header(std::string_view lower_case_name) const;  // first value; empty if absent
};

}  // namespace neutrino::net
