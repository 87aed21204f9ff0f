// /api/v1 as routes of an HTTP server: what is done around every handler of api.h.
//
// On a worker: query and body parsed → who calls, and may that role → prepare() → a transaction: Idempotency-Key, the handler, the audit
// log, the answer kept under the key. A dry run's transaction is undone at its end, so what it answers is what would be. Refusals for
// want of a permission are noted in the audit log by a transaction of their own.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "cloud/api/api.h"
#include "net/route.h"
#include "net/workers.h"

namespace neutrino::cloud {

// Who calls; see caller.h. Throws Error{unauthenticated} or {permission_denied}.
using FindCaller = std::function<Caller(const net::Request& request, store::Transaction& transaction,
                                        const Tables& tables, int64_t now_ms, std::string_view peer_address)>;

// All of the API, /health and /api/v1/openapi.json. References outlive the server; so do the workers.
std::vector<net::Route> api_routes(const ApiServices& services, net::Workers& workers);
std::vector<ApiRoute> all_api_routes(const ApiServices& services);

std::vector<net::Route> make_api_routes(const ApiServices& services, net::Workers& workers,
                                        std::vector<ApiRoute> table, FindCaller find_caller);

}  // namespace neutrino::cloud
