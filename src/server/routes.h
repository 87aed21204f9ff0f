// The table of routes of one replica. To add a route: a file in routes/ with its handler, a line in routes/handlers.h, and a
// line in routes.cpp.
#pragma once

#include <span>
#include <vector>

#include "net/route.h"
#include "server/services.h"

namespace neutrino::server {

using RouteHandler = net::asio::awaitable<void> (*)(Services&, const net::Request&, net::Response&);

struct ServerRoute {
  net::RouteSpec spec;
  RouteHandler handle;
};

std::span<const ServerRoute> route_table();

// The table with its handlers bound to `services`, as the HTTP server takes it.
std::vector<net::Route> bind_routes(Services& services);

}  // namespace neutrino::server
