// /tokenize and /detokenize, in the shapes that vLLM gave them.
#include "net/schema.h"
#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/nested_keys.h"
#include "server/reasoning_request.h"
#include "server/request_fields.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

using net::find;

bool flag(const json::object& body, std::string_view name, bool otherwise) {
  const auto* value = find(body, name);
  return value ? value->get_bool() : otherwise;
}

void check_model(const json::object& body, const ModelView& view) {
  if (const auto* model = find(body, "model")) check_model_name(std::string_view(model->get_string()), view);
}

std::vector<int32_t> tokenize_body(const json::object& body, const chat::ChatModel& model,
                                   std::vector<std::string>& ignored) {
  const auto* prompt = find(body, "prompt");
  const auto* messages = find(body, "messages");
  if (!prompt == !messages)
    throw invalid_field("exactly one of prompt and messages is required", "prompt",
                        "missing_required_parameter");
  if (prompt) {
    note_conversation_fields(body, ignored);
    return model.tokenize(std::string_view(prompt->get_string()), flag(body, "add_special_tokens", true),
                          true);
  }
  note_unread_keys(body, kChatKeys, ignored);
  const chat::Conversation conversation = read_conversation(body);
  check_template_arguments(conversation, model.info());
  return model.tokenize(model.render(conversation), flag(body, "add_special_tokens", false), true);
}

std::string tokenize_answer(const Request& request, Services& services, std::vector<std::string>& ignored) {
  const chat::ChatModel& model = services.chat_model;
  const json::object body = net::parse_body(request.body, kTokenizeFields, ignored);
  check_model(body, services.view());
  const std::vector<int32_t> tokens = tokenize_body(body, model, ignored);
  json::object answer;
  answer["count"] = tokens.size();
  answer["max_model_len"] = model.info().context_tokens;
  answer["tokens"] = ids_json(tokens);
  answer["token_strs"] = nullptr;
  if (flag(body, "return_token_strs", false)) {
    json::array& texts = answer["token_strs"].emplace_array();
    for (const int32_t token : tokens)
      texts.emplace_back(json::string_view(valid_utf8(model.token_text(token))));
  }
  return to_text(answer);
}

std::string detokenize_answer(const Request& request, Services& services, std::vector<std::string>& ignored) {
  const json::object body = net::parse_body(request.body, kDetokenizeFields, ignored);
  check_model(body, services.view());
  const chat::ChatModel& model = services.chat_model;
  const std::vector<int32_t> tokens = read_tokens(body.at("tokens").get_array(), model.info(), "tokens");
  json::object answer;
  answer["prompt"] = valid_utf8(model.detokenize(tokens));
  return to_text(answer);
}

asio::awaitable<void> answer_on_worker(Services& services, const Request& request, Response& response,
                                       std::string (*make)(const Request&, Services&,
                                                           std::vector<std::string>&)) {
  std::string body;
  std::vector<std::string> ignored;
  co_await services.workers.run([&] { body = make(request, services, ignored); });
  if (!ignored.empty()) response.set_header("X-Ignored-Params", header_text(joined(ignored, ",")));
  response.send(200, std::move(body));
}

}  // namespace

asio::awaitable<void> tokenize(Services& services, const Request& request, Response& response) {
  co_await answer_on_worker(services, request, response, tokenize_answer);
}

asio::awaitable<void> detokenize(Services& services, const Request& request, Response& response) {
  co_await answer_on_worker(services, request, response, detokenize_answer);
}

}  // namespace neutrino::server::routes
