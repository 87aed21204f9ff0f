// Bodies of other APIs are turned into the body of a chat completion, so that one path serves all of them: what a message, a tool or a
// parameter may be is decided once. Here is what such translations share.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "server/inference_request.h"

namespace neutrino::server {

// Readers of fields below the first level, which no table checks. They throw Error{invalid_argument} with the path.
const json::object& object_at(const json::value& value, const std::string& path);
const json::array& array_at(const json::value& value, const std::string& path);
std::string text_at(const json::object& object, std::string_view name, const std::string& path);  // required
std::string type_at(const json::object& object, const std::string& path);  // its "type"

// "path must be one of ..., got ...": for a kind of thing that is known and not supported, or not known.
Error unsupported_type(const std::string& path, std::string_view got, std::string_view supported);

// {"type": "text", "text": ...}
json::object text_part(std::string text);

// Copies the fields of these names that are there.
void copy_fields(const json::object& from, json::object& to,
                 std::initializer_list<std::pair<std::string_view, std::string_view>> names);

}  // namespace neutrino::server
