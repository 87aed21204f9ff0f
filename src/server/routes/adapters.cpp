// Adapters by name, loaded and unloaded while requests run, in the shapes that vLLM gave these routes.
#include <algorithm>
#include <filesystem>

#include "base/adapter_limits.h"
#include "net/schema.h"
#include "server/answer_json.h"
#include "server/request_fields.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

std::string text_field(const json::object& body, std::string_view name, int64_t bytes_max) {
  const auto& text = body.at(name).get_string();
  if (text.empty() || std::ssize(text) > bytes_max)
    throw invalid_field(fmt::format("{} must have 1 to {} bytes, got {}", name, bytes_max, text.size()),
                        std::string(name));
  return std::string(text);
}

// The model's own names stay its own.
void check_free_name(const std::string& name, const Services& services) {
  if (std::ranges::find(services.served_names, name) != services.served_names.end())
    throw invalid_field(fmt::format("lora_name \"{}\" is the name of the model itself", name), "lora_name");
}

std::string load(Services& services, const Request& request, std::vector<std::string>& ignored) {
  const json::object body = net::parse_body(request.body, kLoadAdapterFields, ignored);
  const std::string name = text_field(body, "lora_name", limits::kAdapterNameBytes);
  const std::string path = text_field(body, "lora_path", limits::kAdapterPathBytes);
  check_free_name(name, services);
  const auto* in_place = net::find(body, "load_inplace");
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    throw invalid_field("lora_path must be a PEFT folder or a GGUF file on the server's machine", "lora_path",
                        "adapter_not_found");
  services.chat_model.load_adapter(
      name, path, in_place && in_place->get_bool() ? chat::IfLoaded::replace : chat::IfLoaded::refuse);
  return fmt::format("Success: LoRA adapter '{}' added successfully.", name);
}

std::string unload(Services& services, const Request& request, std::vector<std::string>& ignored) {
  const json::object body = net::parse_body(request.body, kUnloadAdapterFields, ignored);
  const std::string name = text_field(body, "lora_name", limits::kAdapterNameBytes);
  services.chat_model.unload_adapter(name);
  return fmt::format("Success: LoRA adapter '{}' removed successfully.", name);
}

asio::awaitable<void> answer_on_worker(Services& services, const Request& request, Response& response,
                                       std::string (*run)(Services&, const Request&,
                                                          std::vector<std::string>&)) {
  std::string text;
  std::vector<std::string> ignored;
  co_await services.workers.run([&] { text = run(services, request, ignored); });
  if (!ignored.empty()) response.set_header("X-Ignored-Params", header_text(joined(ignored, ",")));
  response.send(200, std::move(text), "text/plain; charset=utf-8");
}

}  // namespace

asio::awaitable<void> load_adapter(Services& services, const Request& request, Response& response) {
  co_await answer_on_worker(services, request, response, load);
}

asio::awaitable<void> unload_adapter(Services& services, const Request& request, Response& response) {
  co_await answer_on_worker(services, request, response, unload);
}

}  // namespace neutrino::server::routes
