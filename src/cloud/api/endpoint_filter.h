// `endpoint=` in a list's query may be an endpoint's name where rows have its id.
#pragma once

#include "cloud/api/api.h"

namespace neutrino::cloud {

void take_endpoint_names(const Tables& tables, ApiRoute& list);

}  // namespace neutrino::cloud
