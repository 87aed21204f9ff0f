// POST /v1/messages and /v1/messages/count_tokens: Anthropic's API in front of the same models.
#include "server/messages_request.h"

#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/messages_format.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {
namespace {

ChatRequest read_chat(MessagesBody& body, Services& services) {
  ChatRequest chat = parse_chat_request(to_text(body.chat), services.view());
  chat.ignored.insert(chat.ignored.end(), body.ignored.begin(), body.ignored.end());
  return chat;
}

}  // namespace

asio::awaitable<void> messages(Services& services, const Request& request, Response& response) {
  refuse_early(services, request);
  ChatRequest chat;
  std::vector<Choice> choices;
  co_await services.workers.run([&] {
    MessagesBody body = parse_messages_body(request.body, MessagesUse::answer);
    chat = read_chat(body, services);
    choices = plan_chat(services.chat_model, chat);
  });
  const MessagesFormat format;
  co_await answer_request(services, request, response, chat, std::move(choices), format);
}

asio::awaitable<void> count_tokens(Services& services, const Request& request, Response& response) {
  int64_t tokens = 0;
  ChatRequest chat;
  co_await services.workers.run([&] {
    MessagesBody body = parse_messages_body(request.body, MessagesUse::count);
    chat = read_chat(body, services);
    const chat::ChatModel& model = services.chat_model;
    const std::string prompt = model.render(chat.conversation);
    settle_answer(model.info(), prompt, chat);  // refuses what the answer would be refused for
    compile_constraint(model, chat);
    tokens = std::ssize(model.tokenize(prompt, chat.add_special_tokens, true));
  });
  if (!chat.ignored.empty()) response.set_header("X-Ignored-Params", header_text(joined(chat.ignored, ",")));
  response.send(200, to_text(json::object{{"input_tokens", tokens}}));
}

}  // namespace neutrino::server::routes
