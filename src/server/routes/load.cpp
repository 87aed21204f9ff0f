#include "server/load_report.h"

#include "server/routes/handlers.h"

namespace neutrino::server::routes {

asio::awaitable<void> load(Services& services, const Request&, Response& response) {
  response.send(200, to_text(load_json(services.chat_model.status())));
  co_return;
}

}  // namespace neutrino::server::routes
