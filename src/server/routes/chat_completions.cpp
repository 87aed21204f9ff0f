#include "server/answer_json.h"
#include "server/chat_request.h"
#include "server/routes/handlers.h"

namespace neutrino::server::routes {

asio::awaitable<void> chat_completions(Services& services, const Request& request, Response& response) {
  ChatRequest chat;
  std::vector<Choice> choices;
  co_await services.workers.run([&] {
    const chat::ChatModel& model = services.chat_model;
    chat = parse_chat_request(request.body, services.view());
    std::vector<int32_t> prompt =
        model.tokenize(model.render(chat.conversation), chat.add_special_tokens, true);
    plan_choices(choices, chat, 0, std::move(prompt), {}, model.info());
  });
  const ChatFormat format(services.chat_model);
  co_await answer_request(services, request, response, chat, std::move(choices), format);
}

}  // namespace neutrino::server::routes
