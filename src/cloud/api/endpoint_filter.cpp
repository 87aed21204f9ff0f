#include "cloud/api/endpoint_filter.h"

#include <utility>

namespace neutrino::cloud {

void take_endpoint_names(const Tables& tables, ApiRoute& list) {
  list.handle = [&tables, inner = std::move(list.handle)](ApiCall& call, store::Transaction& transaction) {
    const auto given = call.query.find("endpoint");
    if (given != call.query.end() && store::is_storable_text(given->second))
      if (const auto named = tables.endpoint_names.find(transaction, call.caller.workspace, given->second))
        given->second = named->endpoint;
    return inner(call, transaction);
  };
}

}  // namespace neutrino::cloud
