// Keys below the first level of a body that nobody reads: accepted, but not silently.
//
// The tables of request_fields.h cover a body's own fields. Of the objects in them most readers refuse what they do not know; those whose
// clients send more than is needed (a message that comes from an answer, a tool of another server) report it instead.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace neutrino::server {

// Of the objects at `path`, "a.b" or "a[].b" for those in a list, these keys are read; words between single spaces.
struct ReadKeys {
  std::string_view path;
  std::string_view keys;
};

// Adds "a[].key" to `ignored` once for each key of such an object that is not read and not null. Values of other types are passed over:
// their readers refuse them.
void note_unread_keys(const json::object& body, std::span<const ReadKeys> table,
                      std::vector<std::string>& ignored);

// Chat completions' own, for the routes that take messages in that form.
extern const std::span<const ReadKeys> kChatKeys;

}  // namespace neutrino::server
