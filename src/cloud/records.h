// What happened, for people: events of endpoints, and who did what through the API.
#pragma once

#include <cstdint>
#include <string>
#include <tuple>

#include "base/fields.h"

namespace neutrino::cloud {

// An event as it is kept: resources.h's, with the workspace that may read it. Equal ones in a row are one row with a count.
struct EventRow {
  int64_t id = 0;  // in the order in which they happened
  std::string workspace;
  std::string endpoint;  // id; empty: of none
  std::string deployment, replica;
  std::string reason;  // "Scaled", "NoCapacity"
  std::string message;
  int64_t count = 1;
  int64_t at_ms = 0;  // of the last of them
  static constexpr auto fields() {
    using E = EventRow;
    return std::tuple(field("id", &E::id, {.key = true}), field("workspace", &E::workspace),
                      field("endpoint", &E::endpoint), field("deployment", &E::deployment),
                      field("replica", &E::replica), field("reason", &E::reason),
                      field("message", &E::message), field("count", &E::count), field("at_ms", &E::at_ms));
  }
};

// A call of the API that changed something, or was refused for want of a permission.
struct AuditRow {
  int64_t id = 0;
  std::string workspace;  // empty: the platform
  int64_t at_ms = 0;
  std::string actor;  // "member:ada@example.org", "key:ci"
  std::string address, method, path;
  int64_t status = 0;
  std::string request_id;
  std::string message;  // of a refusal
  static constexpr auto fields() {
    using A = AuditRow;
    return std::tuple(field("id", &A::id, {.key = true}), field("workspace", &A::workspace),
                      field("at_ms", &A::at_ms), field("actor", &A::actor), field("address", &A::address),
                      field("method", &A::method), field("path", &A::path), field("status", &A::status),
                      field("request_id", &A::request_id), field("message", &A::message));
  }
};

}  // namespace neutrino::cloud
