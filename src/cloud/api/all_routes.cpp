// The table of the API: a subject is a file and a line here.
#include "cloud/api/caller.h"
#include "cloud/api/routes.h"

namespace neutrino::cloud {

std::vector<ApiRoute> all_api_routes(const ApiServices& services) {
  constexpr std::vector<ApiRoute> (*kSubjects[])(const ApiServices&) = {
      tenant_api,    // workspaces, members, keys, secrets
      endpoint_api,  // endpoints, revisions
      replica_api,   // replicas, logs
      fleet_api,     // nodes, node groups, shapes
      record_api,    // events, audit, changes
      usage_api,     // requests, hours, sums, machines
      spending_api,  // prices, budgets
      login_api,     // sign-in, who am I
  };
  std::vector<ApiRoute> table;
  for (const auto& subject : kSubjects)
    for (ApiRoute& route : subject(services)) table.push_back(std::move(route));
  return table;
}

std::vector<net::Route> api_routes(const ApiServices& services, net::Workers& workers) {
  return make_api_routes(services, workers, all_api_routes(services), find_caller);
}

}  // namespace neutrino::cloud
