#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

json::object model_json(const chat::ChatModelInfo& info, const std::string& name) {
  json::object model;
  model["id"] = name;
  model["object"] = "model";
  model["created"] = info.created_unix;
  model["owned_by"] = "neutrino";
  model["root"] = info.name;
  model["parent"] = nullptr;
  model["max_model_len"] = info.context_tokens;
  return model;
}

}  // namespace

asio::awaitable<void> list_models(Services& services, const Request&, Response& response) {
  json::array models;
  for (const std::string& name : services.served_names)
    models.push_back(model_json(services.chat_model.info(), name));
  json::object body;
  body["object"] = "list";
  body["data"] = std::move(models);
  response.send(200, to_text(body));
  co_return;
}

asio::awaitable<void> get_model(Services& services, const Request& request, Response& response) {
  check_model_name(request.parameter, services.view());
  response.send(200, to_text(model_json(services.chat_model.info(), request.parameter)));
  co_return;
}

}  // namespace neutrino::server::routes
