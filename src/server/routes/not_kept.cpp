// Files, batches and stored responses need a store that outlives a replica. A replica keeps nothing, and says so by name rather
// than with the 404 of a mistyped path.
#include "server/routes/handlers.h"

namespace neutrino::server::routes {

asio::awaitable<void> not_kept(Services&, const Request& request, Response&) {
  throw make_error(ErrorCode::not_found,
                   "{} needs stored state (files, batches, responses), and a single replica keeps none; the "
                   "requests themselves can be sent to /v1/chat/completions and /v1/responses",
                   request.route->path)
      .with_reason("not_stored_here");
  co_return;
}

}  // namespace neutrino::server::routes
