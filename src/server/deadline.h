// How long a client is willing to wait: the header X-Request-Timeout (seconds, fractions allowed) and the field timeout_ms, of
// which the shorter one holds. The time counts from when the request's header was complete.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "net/request.h"

namespace neutrino::server {

inline constexpr int64_t kTimeoutMsMax = 24 * 3600 * 1000;

// Milliseconds left, at least 1; nullopt: the client set no limit. Throws Error{invalid_argument} for a header that is no time, and
// deadline_error() when nothing is left.
std::optional<int64_t> timeout_left_ms(const net::Request& request, std::optional<int64_t> field_ms);

Error deadline_error();

}  // namespace neutrino::server
