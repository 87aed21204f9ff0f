// GET /api/v1/changes: what was written, as it is written, by asking again and again or as a stream of events.
#pragma once

#include "cloud/api/api.h"

namespace neutrino::cloud {

ApiRoute changes_route(const ApiServices& services);

}  // namespace neutrino::cloud
