// Who a request says it is from: its API key and its address. api_keys.h and the cloud know what they are worth.
#pragma once

#include <string_view>

#include "net/request.h"

namespace neutrino::net {

// Authorization: Bearer KEY, else X-Api-Key; empty: neither, or another scheme.
std::string_view presented_key(const Request& request);
// The peer without its port.
std::string_view peer_address(const Request& request);

}  // namespace neutrino::net
