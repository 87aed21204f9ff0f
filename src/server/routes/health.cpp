// live: this process answers. ready: a request sent now would be served (weights loaded, the engine makes progress, no drain).
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

std::string health(std::string_view status) {
  return to_text(json::object{{"object", "health.response"},
                              {"message", fmt::format("The service is {}.", status)},
                              {"status", status}});
}

}  // namespace

asio::awaitable<void> live(Services&, const Request&, Response& response) {
  response.send(200, health("live"));
  co_return;
}

asio::awaitable<void> ready(Services& services, const Request&, Response& response) {
  const chat::ChatModelStatus status = services.chat_model.status();
  if (services.http.draining())
    throw Error(ErrorCode::unavailable, "the server is shutting down").with_reason("draining");
  if (status.dead) throw Error(ErrorCode::unavailable, "the engine has failed").with_reason("engine_dead");
  if (!status.ready)
    throw Error(ErrorCode::unavailable, status.reason.empty() ? "the model is not ready" : status.reason)
        .with_reason("model_loading");
  response.send(200, health("ready"));
  co_return;
}

}  // namespace neutrino::server::routes
