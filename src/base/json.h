// JSON at the edge: a bounded parse with a clear error. Inside neutrino there are types, not JSON.
#pragma once

#include <boost/json.hpp>

#include <string>
#include <string_view>

#include "base/limits.h"

namespace neutrino {

namespace json = boost::json;

// Parses one JSON text (RFC 8259, UTF-8 checked, depth <= limits::kJsonDepth, duplicate keys refused). `values_max`: the most
// values it may hold; files that list a vocabulary need more than a request does.
// Throws Error{invalid_argument, reason "invalid_json"} that says where.
json::value parse_json(std::string_view text, int64_t values_max = limits::kJsonValues);

// Compact, keys in their order, numbers as people write them. The value is at most as deep as parse_json() allows.
std::string to_text(const json::value& value);

}  // namespace neutrino
