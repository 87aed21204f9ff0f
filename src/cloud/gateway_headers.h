// Which headers pass a gateway, and which paths do no harm when they are asked twice. For gateway*.cpp alone.
#pragma once

#include <string_view>

namespace neutrino::cloud {

// Tells a replica which usage record its own log line of the request belongs to. Never a client's.
inline constexpr const char* kUsageIdHeader = "X-Neutrino-Usage-Id";

bool is_json_type(std::string_view content_type);
bool goes_upstream(std::string_view header);    // lower case; the client's key, origin and cookies do not
bool goes_downstream(std::string_view header);  // what our own server says itself does not
bool is_generating(std::string_view path);      // its POST generates tokens
bool is_computing(std::string_view path);       // its POST computes something and keeps nothing

}  // namespace neutrino::cloud
