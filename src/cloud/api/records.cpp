// What happened, through the API: events of what runs, the audit log, and the change log to watch.
#include "cloud/api/changes.h"
#include "cloud/api/collection.h"
#include "cloud/api/endpoint_filter.h"

namespace neutrino::cloud {

std::vector<ApiRoute> record_api(const ApiServices& services) {
  Verbs list_only = kReadOnly;
  list_only.get = false;
  const Collection<EventRow> events{.path = "/api/v1/events",
                                    .item_path = "",
                                    .noun = "event",
                                    .rows = services.tables.events,
                                    .verbs = list_only};
  const Collection<AuditRow> audit{.path = "/api/v1/audit",
                                   .item_path = "",
                                   .noun = "call",
                                   .rows = services.tables.audit,
                                   .read = Needs::admin,
                                   .verbs = list_only};
  std::vector<ApiRoute> routes = collection_routes(events);
  take_endpoint_names(services.tables, routes.front());
  for (ApiRoute& route : collection_routes(audit)) routes.push_back(std::move(route));
  routes.push_back(changes_route(services));
  return routes;
}

}  // namespace neutrino::cloud
