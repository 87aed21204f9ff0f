#include "server/routes/handlers.h"

namespace neutrino::server::routes {

asio::awaitable<void> cancel_request(Services& services, const Request& request, Response& response) {
  const int count = services.active.cancel(request.parameter, request.key_name);
  if (count == 0)
    throw make_error(ErrorCode::not_found, "no request with the id \"{:.130}\" is running", request.parameter)
        .with_reason("request_not_found")
        .with_param("id");
  response.send(200, to_text(json::object{{"id", request.parameter}, {"cancelled", count}}));
  co_return;
}

}  // namespace neutrino::server::routes
