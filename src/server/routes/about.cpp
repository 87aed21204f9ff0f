// What this server is: version, metadata, metrics, and the table of routes as a document.
#include "base/limits.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

json::object defaults_json(const chat::SamplingParameters& defaults) {
  json::object result;
  result["temperature"] = defaults.temperature;
  result["top_p"] = defaults.top_p;
  result["top_k"] = defaults.top_k;
  result["min_p"] = defaults.min_p;
  result["repetition_penalty"] = defaults.repetition_penalty;
  return result;
}

// The model's own figures, then everything that can grow, with the most that it can grow to.
void add_memory(Services& services, json::object& memory) {
  json::array parts;
  std::vector<chat::MemoryUse> all = services.chat_model.memory();
  all.push_back({"request_bodies", services.http.body_bytes(), limits::kBodyBytesTotal});
  all.push_back({"chat_templates", 0, limits::kTemplateMemoryBytes * services.workers.threads()});
  for (const chat::MemoryUse& use : all)
    parts.push_back(json::object{{"name", use.name}, {"bytes", use.bytes}, {"bytes_max", use.bytes_max}});
  memory["parts"] = std::move(parts);
}

// What clients of NIM look for.
void add_nim_fields(json::object& body, const chat::ChatModelInfo& info) {
  body["assetInfo"] = json::array();
  body["licenseInfo"] = info.license;
  body["modelInfo"] = json::array{json::object{{"shortName", info.name}, {"modelUrl", ""}}};
  body["repository_override"] = "";
  if (!body.contains("selectedModelProfileId")) body["selectedModelProfileId"] = info.fingerprint;
}

json::array adapters_json(const chat::ChatModel& model) {
  json::array list;
  for (const chat::AdapterPtr& adapter : model.adapters())
    list.push_back(json::object{{"name", adapter->name},
                                {"sha256", adapter->digest},
                                {"rank", adapter->rank},
                                {"parameters", adapter->parameters},
                                {"bytes", adapter->bytes}});
  return list;
}

}  // namespace

asio::awaitable<void> license(Services& services, const Request&, Response& response) {
  response.send(200, to_text(services.chat_model.info().license));
  co_return;
}

// The manifest as text, as NIM gives it, and as JSON beside it.
asio::awaitable<void> manifest(Services& services, const Request&, Response& response) {
  const json::object& manifest = services.chat_model.info().manifest;
  response.send(
      200, to_text(json::object{
               {"manifest_file", to_text(manifest)}, {"repository_override", ""}, {"manifest", manifest}}));
  co_return;
}

asio::awaitable<void> version(Services&, const Request&, Response& response) {
  response.send(200, to_text(json::object{
                         {"version", NEUTRINO_VERSION}, {"release", NEUTRINO_VERSION}, {"api", "v1"}}));
  co_return;
}

asio::awaitable<void> metadata(Services& services, const Request&, Response& response) {
  const chat::ChatModelInfo& info = services.chat_model.info();
  json::object body = info.metadata;
  if (!body.contains("memory")) body["memory"] = json::object();
  add_memory(services, body["memory"].as_object());
  body["model"] = info.name;
  json::array names;
  for (const std::string& name : services.served_names) names.emplace_back(json::string_view(name));
  body["served_model_names"] = std::move(names);
  body["adapters"] = adapters_json(services.chat_model);
  body["version"] = NEUTRINO_VERSION;
  body["system_fingerprint"] = info.fingerprint;
  body["context_tokens"] = info.context_tokens;
  body["vocab_size"] = info.vocab_size;
  body["chat_template_sha256"] =
      info.has_chat_template ? json::value(info.template_sha256) : json::value(nullptr);
  body["sampling_defaults"] = defaults_json(info.defaults);
  add_nim_fields(body, info);
  response.send(200, to_text(body));
  co_return;
}

asio::awaitable<void> metrics(Services& services, const Request&, Response& response) {
  std::string text;
  co_await services.workers.run([&] { text = services.metrics.text(); });
  response.send(200, std::move(text), "text/plain; version=0.0.4; charset=utf-8");
}

asio::awaitable<void> openapi(Services& services, const Request&, Response& response) {
  response.send(200, services.openapi);
  co_return;
}

}  // namespace neutrino::server::routes
