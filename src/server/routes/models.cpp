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

// vLLM's shape: the parent is the model that it is an adapter of. The way to its files is nobody's business here.
json::object adapter_json(const Services& services, const chat::Adapter& adapter) {
  json::object model = model_json(services.chat_model.info(), adapter.name);
  model["created"] = adapter.created_unix;
  model["root"] = adapter.file;
  model["parent"] = services.served_names.front();
  return model;
}

}  // namespace

asio::awaitable<void> list_models(Services& services, const Request&, Response& response) {
  json::array models;
  for (const std::string& name : services.served_names)
    models.push_back(model_json(services.chat_model.info(), name));
  for (const chat::AdapterPtr& adapter : services.chat_model.adapters())
    models.push_back(adapter_json(services, *adapter));
  json::object body;
  body["object"] = "list";
  body["data"] = std::move(models);
  response.send(200, to_text(body));
  co_return;
}

asio::awaitable<void> get_model(Services& services, const Request& request, Response& response) {
  const chat::AdapterPtr adapter = find_model(request.parameter, services.view());
  response.send(200, to_text(adapter ? adapter_json(services, *adapter)
                                     : model_json(services.chat_model.info(), request.parameter)));
  co_return;
}

}  // namespace neutrino::server::routes
